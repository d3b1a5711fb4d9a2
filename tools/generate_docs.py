"""Writes the documents that the code itself holds: errors, glossary, states, limits, commands.

A person should never have to keep two copies in step, so these five files are made from
docstrings, tables and comments. `make docs` writes them; `tests/docs/test_generated.py` compares
each with what the code says now.
"""

from __future__ import annotations

from collections.abc import Callable

from documents import commands, errors, glossary, limits, states
from documents.sources import ROOT

DOCUMENTS: dict[str, Callable[[], str]] = {
    "commands.md": commands.text,
    "errors.md": errors.text,
    "glossary.md": glossary.text,
    "limits.md": limits.text,
    "tasks.md": states.text,
}


def write_all() -> list[str]:
    """The names of the documents that changed."""
    changed = []
    for name, text_of in DOCUMENTS.items():
        path = ROOT / "docs" / name
        text = text_of()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed.append(name)
    return changed


if __name__ == "__main__":
    for changed_name in write_all():
        print(f"docs/{changed_name}")
