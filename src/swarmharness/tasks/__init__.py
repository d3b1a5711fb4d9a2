"""A task: one wish, its attempts and its end."""
