"""Skill folders: reading them, running them in a sandbox."""
