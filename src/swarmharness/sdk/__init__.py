"""The client of a node's local control API."""
