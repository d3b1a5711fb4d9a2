"""The host's side of the sandbox: confining, feeding, measuring and ending foreign code."""
