"""A name is imported from the file that defines it, and a private one from nowhere else."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "swarmharness"
GUEST = SOURCE / "skills" / "guest"


def dotted(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(path): path for path in sorted(SOURCE.rglob("*.py"))}
IMPORTABLE = [
    name
    for name, path in FILES.items()
    # Guest code runs in sandboxes only; `__main__` would run the command.
    if GUEST not in path.parents and path.name != "__main__.py"
]


def exports(tree: ast.Module) -> set[str]:
    """What the file says it exports."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return set(ast.literal_eval(value))
    return set()


def definitions(tree: ast.Module) -> set[str]:
    """The names that a file makes itself, or says it exports."""
    found = exports(tree)
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
    return found


def foreign_imports(source: str) -> list[str]:
    """Imports from our own files of names that those files do not make, or keep private."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or node.module not in FILES:
            continue
        made = definitions(ast.parse(FILES[node.module].read_text()))
        for alias in node.names:
            is_module = f"{node.module}.{alias.name}" in FILES
            is_private = alias.name.startswith("_") and not alias.name.startswith("__")
            if not is_module and (is_private or alias.name not in made):
                found.append(f"{node.module}.{alias.name}")
    return found


@pytest.mark.parametrize(
    "planted",
    [
        "from swarmharness.kernel.ids import _checksum",
        "from swarmharness.tasks.errors import SwarmError",
        "from swarmharness.kernel.ids import NoSuchName",
    ],
)
def test_planted_import_is_noticed(planted):
    assert foreign_imports(planted)


def test_names_come_from_where_they_are_made():
    found = {
        name: foreign
        for name, path in FILES.items()
        if (foreign := foreign_imports(path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize("name", IMPORTABLE)
def test_every_module_has_what_it_exports(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert [export for export in exported if not hasattr(module, export)] == []
    assert list(exported) == sorted(exported)
