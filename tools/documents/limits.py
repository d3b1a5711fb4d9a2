"""Every number in the code that has a name and a reason for its size.

A limit is a numeric constant of a module with a comment beside it, or a numeric field of a class
called `…Limits` or `…Ceilings`. A string below a constant is a reason as well where the name says
how much of something it is; flags and codes are explained in strings, too.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from documents import markdown
from documents.sources import FLOORS, inside, modules, string_after

CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
SAYS_HOW_MUCH = re.compile(
    r"(^|_)(LIMIT|MAX|MIN|BYTES|CHARS|LENGTH|SECONDS|S|MS|US|COUNT|LEVELS)(_|$)"
)
LIMIT_CLASS = re.compile(r"(Limits|Ceilings)$")


class Number(NamedTuple):
    """One number that was given a name."""

    owner: str | None
    name: str
    value: str
    comment: str
    string_below: str

    @property
    def reason(self) -> str:
        return self.comment or self.string_below

    @property
    def is_limit(self) -> bool:
        if self.owner is not None or self.comment:
            return True
        return bool(self.string_below and SAYS_HOW_MUCH.search(self.name))


def text() -> str:
    floors = []
    for floor in FLOORS:
        rows = [
            (_title(number), f"`{number.value}`", number.reason, f"`{inside(path)}`")
            for path in modules(floor)
            for number in numbers(path)
            if number.is_limit
        ]
        if rows:
            table = markdown.table(("Limit", "Value", "Why", "File"), rows)
            floors.append(f"## {floor}\n\n{table}")
    return markdown.document(
        "Limits",
        "Every queue, table, message, retry and log ends somewhere. These are the named limits and"
        " sizes, each with the reason for its value.",
        *floors,
    )


def _title(number: Number) -> str:
    return f"`{number.owner}.{number.name}`" if number.owner else f"`{number.name}`"


def numbers(path: Path) -> Iterator[Number]:
    """In the order of the file: constants of the module, then those classes' fields."""
    source = path.read_text()
    comments = _comments_by_line(source)
    tree = ast.parse(source)
    bodies: list[tuple[str | None, list[ast.stmt]]] = [(None, tree.body)]
    bodies += [
        (node.name, node.body)
        for node in tree.body
        if isinstance(node, ast.ClassDef) and LIMIT_CLASS.search(node.name)
    ]
    for owner, body in bodies:
        for statement, following in zip(body, [*body[1:], None], strict=True):
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    pass
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    pass
                case _:
                    continue
            if _is_number(value) and (owner or CONSTANT.fullmatch(name)):
                comment = comments.get(statement.end_lineno or 0, "")
                segment = ast.get_source_segment(source, value) or ""
                yield Number(owner, name, segment, comment, string_after(following))


def _is_number(value: ast.expr) -> bool:
    """Arithmetic over numbers and the names of other constants."""
    allowed = (ast.BinOp, ast.operator, ast.Constant, ast.Name, ast.Load, ast.Tuple)
    nodes = list(ast.walk(value))
    if not all(isinstance(node, allowed) for node in nodes):
        return False
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return all(name.isupper() for name in names) and all(
        isinstance(c, int | float) and not isinstance(c, bool) for c in constants
    )


def _comments_by_line(source: str) -> dict[int, str]:
    """Without the notes that are meant for a linter."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comment = re.sub(r"^noqa: [A-Z0-9, ]+\s*", "", token.string.lstrip("# "))
            comment = re.sub(r"\s*#\s*noqa.*$", "", comment)
            if comment:
                found[token.start[0]] = comment
    return found
