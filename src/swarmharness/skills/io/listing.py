"""A listing is what a directory holds at one moment, read from disk without following links.

Two readings exist. `read_listing` opens every file and hashes it: what a digest needs.
`signature` looks only at names, sizes and times: what the once-a-second look needs.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from swarmharness.skills.digest import FileEntry, Mode
from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.folder import is_hashed

MAX_FILES = 10_000  # a skill with more vendors a package tree, which belongs in requirements
PIECE = 1024 * 1024  # bytes read at a time


def walk(root: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Regular files and links below `root`: relative POSIX path, path, `lstat`. Sorted."""
    count = 0
    waiting = [root]
    while waiting:
        directory = waiting.pop()
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        for entry in found:
            if not is_hashed(entry.name):
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
                continue
            status = entry.stat(follow_symlinks=False)
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                continue
            count += 1
            if count > MAX_FILES:
                raise BadSkillFile(f"more than {MAX_FILES} files in {root.name}")
            yield path.relative_to(root).as_posix(), path, status


def entry_of(relative: str, path: Path, status: os.stat_result) -> FileEntry:
    """Opens the file; a link gives its text."""
    if stat.S_ISLNK(status.st_mode):
        text = os.fsencode(path.readlink())
        return FileEntry(relative, Mode.LINK, len(text), hashlib.sha256(text).digest())
    state, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as source:
        while piece := source.read(PIECE):
            state.update(piece)
            size += len(piece)
    return FileEntry(relative, mode_of(status), size, state.digest())


def mode_of(status: os.stat_result) -> Mode:
    """Executable for its owner is executable."""
    return Mode.EXECUTABLE if status.st_mode & stat.S_IXUSR else Mode.PLAIN


def read_listing(root: Path) -> list[FileEntry]:
    """The whole folder, hashed."""
    return [entry_of(relative, path, status) for relative, path, status in walk(root)]


def signature(root: Path) -> str:
    """Changes whenever a file is added, removed, renamed, or written. Never opens one."""
    state = hashlib.sha256()
    for relative, _, status in walk(root):
        line = f"{relative}\0{status.st_mode}\0{status.st_size}\0{status.st_mtime_ns}\0"
        state.update(f"{line}{status.st_ino}\n".encode("utf-8", "surrogateescape"))
    return state.hexdigest()
