"""Discovery looks into skills directories: which folders are skills, and what lies beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import final

import msgspec

from swarmharness.kernel.printable import printable_line
from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.folder import (
    HANDLER,
    INSTRUCTIONS,
    MANIFEST,
    MODELS,
    FolderKind,
    Place,
    candidates,
    kind_of,
    support,
)
from swarmharness.skills.io.listing import signature

MAX_PLACES = 1_000  # names in one skills directory; people browse these
MAX_SUPPORT = 64  # modules and directories beside the skills; each is a mount of every sandbox


@final
class FoundFolder(msgspec.Struct, frozen=True, kw_only=True):
    """One directory that is, or looks like, a skill."""

    path: Path
    kind: FolderKind
    support: tuple[Path, ...] = ()
    """What lies beside it and may be imported."""
    signature: str
    """Of the folder and its support; opaque."""
    problem: str = ""
    """Why the folder could not be looked into, if it could not."""
    warnings: tuple[str, ...] = ()
    """About what lies beside it."""
    namesake: Path | None = None
    """An earlier skill whose folder has the same name, in another skills directory."""


def scan(directories: Iterable[Path]) -> tuple[list[FoundFolder], list[str]]:
    """Skills and instruction folders in order, and sentences about unreadable directories."""
    found: list[FoundFolder] = []
    problems: list[str] = []
    named: dict[str, Path] = {}
    for directory in directories:
        if not _is_unicode(str(directory)):
            problems.append(f"Skills directory {_shown(directory)}: its name is not UTF-8.")
            continue
        try:
            places = _places(directory)
        except OSError as error:
            problems.append(f"Skills directory {_shown(directory)}: {error.strerror}.")
            continue
        if len(places) > MAX_PLACES:
            problems.append(f"Skills directory {_shown(directory)} has over {MAX_PLACES} entries.")
            continue
        beside = _beside(directory, support(places))
        for place in candidates(places):
            kind = kind_of(place)
            if kind is FolderKind.OTHER:
                continue
            path = directory / place.name
            if not _is_unicode(place.name):
                problems.append(f"Folder {_shown(path)} is left out: its name is not UTF-8.")
                continue
            first = named.setdefault(place.name, path) if kind is FolderKind.SKILL else path
            found.append(_found(path, kind, beside, None if first == path else first))
    return found, problems


@final
class _Beside(msgspec.Struct, frozen=True):
    paths: tuple[Path, ...]
    signature: str
    warnings: tuple[str, ...]


def _beside(directory: Path, names: list[str]) -> _Beside:
    """A neighbour that cannot be shown is left out: it must not take all skills down with it."""
    paths: list[Path] = []
    lines: list[str] = []
    warnings: list[str] = []
    for name in names:
        line, problem = _signature_of(directory / name)
        lines.append(line)
        if not _is_unicode(name):
            problem = "its name is not UTF-8"
        elif not problem and len(paths) == MAX_SUPPORT:
            problem = f"it comes after the first {MAX_SUPPORT}"
        if problem:
            shown = printable_line(f"{name}, beside the skills, is left out: {problem}")
            warnings.append(shown)
        else:
            paths.append(directory / name)
    return _Beside(tuple(paths), "\n".join(lines), tuple(warnings))


def _found(path: Path, kind: FolderKind, beside: _Beside, namesake: Path | None) -> FoundFolder:
    own, problem = _signature_of(path)
    return FoundFolder(
        path=path,
        kind=kind,
        support=beside.paths,
        signature=f"{kind}\n{namesake}\n{own}\n{beside.signature}",
        problem=problem,
        warnings=beside.warnings,
        namesake=namesake,
    )


def _is_unicode(name: str) -> bool:
    """Other names fit neither into the orders of a sandbox nor into an answer."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: Path) -> str:
    return printable_line(str(path))


def _places(directory: Path) -> list[Place]:
    with os.scandir(directory) as entries:
        return [_place(entry) for entry in entries]


def _place(entry: os.DirEntry[str]) -> Place:
    is_directory = entry.is_dir()
    known = (HANDLER, MODELS, MANIFEST, INSTRUCTIONS)
    children = frozenset(
        name for name in known if is_directory and (Path(entry.path) / name).exists()
    )
    return Place(entry.name, is_directory, entry.is_symlink(), children)


def _signature_of(path: Path) -> tuple[str, str]:
    """The signature, and the reason when it cannot be read."""
    try:
        if path.is_dir():
            return f"{path.name}:{signature(path)}", ""
        status = path.lstat()
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        return f"{path.name}:{reason}", reason
    except BadSkillFile as error:
        return f"{path.name}:{error.sentence}", error.sentence
    return f"{path.name}:{status.st_size}:{status.st_mtime_ns}:{status.st_ino}", ""
