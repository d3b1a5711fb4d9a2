"""A skill folder is a directory with `handler.py` and `models.py`; this file knows its names.

Discovery is HarnessAPI's: the directories directly inside a skills directory, sorted by name,
symbolic links included, names with a leading underscore left out. What lies beside the skills
and is not itself a skill (top-level modules, shared directories) is *support*: skills may
import it, so it travels with them, read-only.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import final

import msgspec

HANDLER = "handler.py"
MODELS = "models.py"
MANIFEST = "skill.toml"
INSTRUCTIONS = "SKILL.md"


class FolderKind(StrEnum):
    """What a directory inside a skills directory is."""

    SKILL = "skill"
    INSTRUCTIONS = "instructions"
    """`SKILL.md` without a handler: text for agents, nothing to run."""
    INCOMPLETE = "incomplete"
    """`handler.py` without `models.py`: meant as a skill, but none."""
    OTHER = "other"


@final
class Place(msgspec.Struct, frozen=True):
    """One name directly inside a skills directory, as the file system shows it."""

    name: str
    is_directory: bool
    is_link: bool = False
    children: frozenset[str] = frozenset()
    """Which of the four known files exist inside; empty for a file."""


def kind_of(place: Place) -> FolderKind:
    """Both files make a skill; one of them alone does not."""
    if not place.is_directory:
        return FolderKind.OTHER
    if {HANDLER, MODELS} <= place.children:
        return FolderKind.SKILL
    if INSTRUCTIONS in place.children:
        return FolderKind.INSTRUCTIONS
    return FolderKind.INCOMPLETE if HANDLER in place.children else FolderKind.OTHER


def candidates(places: Iterable[Place]) -> list[Place]:
    """Directories that may be skills, in the order in which names are given away."""
    return sorted(
        (p for p in places if p.is_directory and not p.name.startswith("_")),
        key=lambda place: place.name,
    )


def support(places: Iterable[Place]) -> list[str]:
    """Names that are shown to the skills beside them.

    Links are left out: where they lead is outside what the operator offered with this
    directory. So are dot-names, which hold credentials and version control.
    """
    return sorted(p.name for p in places if _is_support(p))


def is_hashed(name: str) -> bool:
    """Compiled files change by themselves, and dot-names are not part of a skill."""
    return not name.startswith(".") and name != "__pycache__" and not name.endswith(".pyc")


def _is_support(place: Place) -> bool:
    if place.is_link or not is_hashed(place.name):
        return False
    if not place.is_directory:
        return place.name.endswith(".py")
    return place.name.startswith("_") or kind_of(place) in {FolderKind.OTHER, FolderKind.INCOMPLETE}
