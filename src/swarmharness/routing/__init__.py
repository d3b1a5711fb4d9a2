"""Which node gets a task."""
