"""Every error code, grouped by the room that its first word names."""

from __future__ import annotations

import ast
import importlib
import inspect

from documents import markdown
from documents.sources import GUEST, dotted, fact, modules, string_after
from swarmharness.kernel.errors import Blame, SwarmError, catalogue

HEADING = ("Code", "Meaning", "Blame", "Elsewhere", "Exit", "HTTP", "What to do")


def text() -> str:
    import_everything()
    rooms: dict[str, list[tuple[str, ...]]] = {}
    for code, error in catalogue().items():
        # Tests define errors of their own, and compare this document in the same process.
        if error.__module__.startswith("swarmharness."):
            rooms.setdefault(code.split(".")[0], []).append(_cells(code, error))
    tables = [
        f"## {room}\n\n{markdown.table(HEADING, rows)}" for room, rows in sorted(rooms.items())
    ]
    return markdown.document(
        "Error codes",
        "Every refusal has a code that never changes, a sentence with the values of the moment, a"
        " hint, and somebody to blame:",
        "\n".join(f"- **{blame}**: {meaning}" for blame, meaning in _blames().items()),
        "*Elsewhere* says whether a task that failed so is tried on another node, and *later* that"
        " the same node may do it in a moment. *Exit* is the exit status of the `swarm` command,"
        " *HTTP* the status of the control API.",
        *tables,
    )


def import_everything() -> None:
    """Fills the catalogue. What runs inside a sandbox stays out: it raises none of these."""
    for path in modules():
        if GUEST not in path.parents and path.name != "__main__.py":
            importlib.import_module(dotted(path))


def _cells(code: str, error: type[SwarmError]) -> tuple[str, ...]:
    moves = "yes" if error.elsewhere else "no"
    return (
        f"`{code}`",
        fact(error),
        str(error.blame),
        f"{moves}, later" if error.later else moves,
        str(int(error.exit_code)),
        str(int(error.http_status)),
        error.hint,
    )


def _blames() -> dict[str, str]:
    """An enumeration's members explain themselves in the string below each."""
    [definition] = ast.parse(inspect.getsource(Blame)).body
    assert isinstance(definition, ast.ClassDef)
    texts = (string_after(line) for line in definition.body[2::2])
    return dict(zip((str(blame) for blame in Blame), texts, strict=True))
