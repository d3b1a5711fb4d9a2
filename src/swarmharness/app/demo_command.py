"""The command that shows it all: demo."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
