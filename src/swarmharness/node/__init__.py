"""One node, put together."""
