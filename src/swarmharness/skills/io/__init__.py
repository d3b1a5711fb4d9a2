"""Reading skill folders from disk."""
