"""Authenticated connections between nodes, and remote calls over them."""
