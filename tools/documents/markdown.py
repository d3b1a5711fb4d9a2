"""The little Markdown that the generated documents need."""

from __future__ import annotations

from collections.abc import Iterable

NOTICE = "<!-- Made by `make docs` from the code. Change the code, not this file. -->"


def document(title: str, *blocks: str) -> str:
    """Blocks with an empty line between them, under a title and a notice."""
    return "\n\n".join([f"# {title}", NOTICE, *blocks]) + "\n"


def table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(heading)
    return "\n".join(_row(cells) for cells in [names, ["---"] * len(names), *rows])


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
