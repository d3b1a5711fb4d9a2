"""An import scan reads, without running anything, which names a skill takes from HarnessAPI.

It decides between the shim and the real package before the first import, because afterwards it
is too late: two packages would mean two `SkillInput` classes. The scan starts at the skill's
own files and follows imports into the modules beside the folder.
"""

from __future__ import annotations

import ast
from pathlib import Path

SHIM_NAMES = {
    "harnessapi": frozenset({"SkillInput", "SkillOutput", "skill", "models"}),
    "harnessapi.models": frozenset({"SkillInput", "SkillOutput"}),
}
"""Everything the shim offers, by module."""

MAX_SCANNED_FILES = 2_000  # a folder with more code than that vendors whole packages
MAX_SCANNED_BYTES = 1024 * 1024  # larger sources are generated tables, not imports


def names_beyond_shim(folder: Path) -> list[str]:
    """Dotted names that only the real HarnessAPI has, sorted; empty if the shim is enough."""
    beside = folder.parent
    waiting = [folder]
    seen: set[Path] = set()
    beyond: set[str] = set()
    scanned = 0
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        for source in _sources(place):
            scanned += 1
            if scanned > MAX_SCANNED_FILES:
                return sorted(beyond)
            tree = _parsed(source)
            if tree is None:
                continue
            modules, names = _imports(tree)
            beyond |= names
            waiting.extend(_neighbours(beside, modules))
    return sorted(beyond)


def _sources(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(p for p in place.rglob("*.py") if "__pycache__" not in p.parts)


def _parsed(source: Path) -> ast.Module | None:
    """None for what cannot be read or parsed: the import itself will say so, better."""
    try:
        if source.stat().st_size > MAX_SCANNED_BYTES:
            return None
        return ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _imports(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Absolute modules that are imported, and HarnessAPI names that the shim lacks."""
    modules: set[str] = set()
    beyond: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules.add(alias.name)
                if _is_harnessapi(alias.name) and alias.name not in SHIM_NAMES:
                    beyond.add(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
            if _is_harnessapi(node.module):
                known = SHIM_NAMES.get(node.module, frozenset())
                beyond.update(
                    f"{node.module}.{alias.name}"
                    for alias in node.names
                    if alias.name not in known and alias.name != "*"
                )
    return modules, beyond


def _is_harnessapi(module: str) -> bool:
    return module.split(".", 1)[0] == "harnessapi"


def _neighbours(beside: Path, modules: set[str]) -> list[Path]:
    """The first parts of `shared.x` and `skills.shared.x` as they lie beside the folder."""
    found: list[Path] = []
    for module in sorted(modules):
        parts = module.split(".")
        if parts[0] == beside.name:
            parts = parts[1:]
        if not parts:
            continue
        places = (beside / parts[0], beside / f"{parts[0]}.py")
        found.extend(place for place in places if place.exists())
    return found
