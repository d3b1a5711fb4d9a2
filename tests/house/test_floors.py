"""House rules that a linter does not know: purity of cores, exports, tidiness."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "swarmharness"
IMPURE = frozenset(
    {
        *("asyncio", "socket", "ssl", "threading", "multiprocessing", "select", "selectors"),
        *("time", "datetime", "random", "secrets", "uuid", "signal", "logging"),
        *("os", "sqlite3", "subprocess", "tempfile", "shutil"),
    }
)
SHELLS = (
    "network/io",
    "network/transport",
    "skills/io",
    "skills/sandbox",
    "skills/guest",
    "node",
    "simulator",
    "http",
    "sdk",
    "app",
)
BANNED_NAMES = frozenset({"utils", "helpers", "common", "misc", "manager", "util", "helper"})
FILE_CEILING = 600


def _modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def _is_core(path: Path) -> bool:
    relative = path.relative_to(SOURCE).as_posix()
    return not any(relative.startswith(shell + "/") for shell in SHELLS)


def impurities(source: str) -> list[str]:
    """What a pure core must not touch: IO modules, and order that depends on the process."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in IMPURE]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found += [node.module] if node.module.split(".")[0] in IMPURE else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            banned = node.func.id in {"hash", "id", "open", "input", "print"}
            found += [f"{node.func.id}()"] if banned else []
    return found


@pytest.mark.parametrize(
    "planted", ["import time", "from os import path", "import asyncio.tasks", "x = hash('a')"]
)
def test_planted_impurity_is_noticed(planted: str) -> None:
    assert impurities(planted)


def test_cores_are_pure() -> None:
    dirty = {
        str(path.relative_to(SOURCE)): found
        for path in _modules()
        if _is_core(path) and (found := impurities(path.read_text()))
    }
    assert not dirty


def test_rooms_are_small_and_named_for_what_they_hold() -> None:
    too_long = {
        str(path.relative_to(SOURCE)): lines
        for path in _modules()
        if (lines := len(path.read_text().splitlines())) > FILE_CEILING
    }
    assert not too_long
    assert not [path for path in _modules() if path.stem in BANNED_NAMES]


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(SOURCE))
        for path in _modules()
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_no_swallowed_errors() -> None:
    swallowing = []
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ExceptHandler):
                continue
            is_broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
            )
            if is_broad and all(isinstance(line, ast.Pass) for line in node.body):
                swallowing.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert not swallowing


def test_tracked_files_carry_no_address_of_a_registry_or_a_machine() -> None:
    from pip._internal.models.index import PyPI

    words = [PyPI.netloc, PyPI.file_storage_domain, "/home/" + "runner"]
    for path in [*_modules(), *(ROOT / "requirements").iterdir(), ROOT / "pyproject.toml"]:
        text = path.read_text()
        assert not [word for word in words if word in text], path
