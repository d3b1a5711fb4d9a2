"""The source files of the package, and the first sentences in them."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "swarmharness"
GUEST = SOURCE / "skills" / "guest"
FLOORS = (
    *("kernel", "network", "tasks", "skills", "routing"),
    *("node", "simulator", "sdk", "http", "app"),
)
"""From the ground up; rooms of one floor in the order in which a task meets them."""


def modules(floor: str | None = None) -> list[Path]:
    """All source files, or those of one floor."""
    return sorted((SOURCE / floor if floor else SOURCE).rglob("*.py"))


def inside(path: Path) -> str:
    """The path as documents name it, from the package on."""
    return path.relative_to(SOURCE).as_posix()


def dotted(path: Path) -> str:
    """The name under which a file is imported."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def first_sentence(text: str) -> str:
    """Of a docstring, without its line breaks."""
    first_paragraph = text.partition("\n\n")[0]
    return re.split(r"(?<=[.!?])\s", " ".join(first_paragraph.split()))[0]


def fact(thing: object) -> str:
    """The first sentence of what a class or function says of itself."""
    return first_sentence(inspect.getdoc(thing) or "")


def string_after(statement: ast.stmt | None) -> str:
    """The text that explains the assignment before it, if this is one."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.split())
    return ""
