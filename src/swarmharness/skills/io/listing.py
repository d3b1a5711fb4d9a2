"""A listing is what a directory holds at one moment, read from disk without following links.

Theory of operation. Whoever may write into a folder can also swap a directory for a link while it
is read, so paths prove nothing: the walk goes from one open directory to the next, and no step of
it follows a link. What was a directory when it was opened stays the one that is read, wherever
its name leads by then.

Two readings exist. `read_listing` opens every file and hashes it: what a digest needs.
`signature` looks only at names, sizes and times: what the once-a-second look needs.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, final

import msgspec

from swarmharness.skills.digest import FileEntry, Mode
from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.folder import is_hashed

MAX_FILES = 10_000  # with directories; a skill with more vendors packages: use requirements
MAX_DEPTH = 64  # directories inside each other; each is an open descriptor during the walk
PIECE = 1024 * 1024  # bytes read at a time


@final
class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A regular file or a link, as long as the walk is at it."""

    relative: str
    """POSIX path below the root; empty for the root itself."""
    name: str
    """What to open, in `directory` where there is one."""
    directory: int | None
    path: Path
    """What people know it by; only for words."""
    status: os.stat_result

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def mode(self) -> Mode:
        """Executable for its owner is executable."""
        if self.is_link:
            return Mode.LINK
        return Mode.EXECUTABLE if self.status.st_mode & stat.S_IXUSR else Mode.PLAIN

    def open(self) -> BinaryIO:
        with _naming(self.path):
            return open_regular(self.name, self.directory)

    def link_text(self) -> str:
        with _naming(self.path):
            return os.readlink(self.name, dir_fd=self.directory)


Visit = Callable[[Item], None]


def walk(root: Path, visit: Visit) -> None:
    """Visits the regular files and links below `root`, or `root` itself if it is a file."""
    _Walk(root, visit).look_at(None, str(root), "", 0)


def open_regular(path: Path | str, directory: int | None = None) -> BinaryIO:
    """Neither through a link that took the file's place, nor waiting for the writer of a pipe."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_listing(root: Path, prefix: str = "") -> list[FileEntry]:
    """The whole folder, hashed; names begin with `prefix`."""
    entries: list[FileEntry] = []
    walk(root, lambda item: entries.append(_entry_of(item, joined(prefix, item.relative))))
    return entries


def signature(root: Path) -> str:
    """Changes whenever a file is added, removed, renamed, or written. Never opens one."""
    state = hashlib.sha256()

    def add(item: Item) -> None:
        status = item.status
        line = f"{item.relative}\0{status.st_mode}\0{status.st_size}\0{status.st_mtime_ns}\0"
        state.update(f"{line}{status.st_ino}\n".encode("utf-8", "surrogateescape"))

    walk(root.resolve(), add)
    return state.hexdigest()


def joined(prefix: str, relative: str) -> str:
    """One POSIX path of two, either of which may be empty."""
    return "/".join(part for part in (prefix, relative) if part)


@final
class _Walk:
    def __init__(self, root: Path, visit: Visit) -> None:
        self._root = root
        self._visit = visit
        self._count = 0

    def look_at(self, directory: int | None, name: str, relative: str, depth: int) -> None:
        path = self._root / relative
        with _naming(path):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            self._descend(directory, name, relative, depth)
        elif kind == stat.S_IFREG or (kind == stat.S_IFLNK and depth > 0):
            item = Item(relative=relative, name=name, directory=directory, path=path, status=status)
            self._visit(item)
        elif depth == 0:
            raise BadSkillFile(f"{self._root.name} is neither a directory nor a file")

    def _descend(self, directory: int | None, name: str, relative: str, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise BadSkillFile(f"more than {MAX_DEPTH} directories inside each other in {relative}")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
        with _naming(self._root / relative):
            opened = os.open(name, flags, dir_fd=directory)
        try:
            for inner in self._names(opened):
                self.look_at(opened, inner, joined(relative, inner), depth + 1)
        finally:
            os.close(opened)

    def _names(self, directory: int) -> list[str]:
        """Each once, though a directory that changes may list a name twice."""
        names: set[str] = set()
        with os.scandir(directory) as entries:
            for entry in entries:
                if is_hashed(entry.name):
                    names.add(entry.name)
                if self._count + len(names) > MAX_FILES:
                    raise BadSkillFile(
                        f"more than {MAX_FILES} files and directories in {self._root.name}"
                    )
        self._count += len(names)
        return sorted(names, key=os.fsencode)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """People need the whole path, of which the system saw the last part."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _entry_of(item: Item, path: str) -> FileEntry:
    if item.is_link:
        text = os.fsencode(item.link_text())
        return FileEntry(path, Mode.LINK, len(text), hashlib.sha256(text).digest())
    state, size = hashlib.sha256(), 0
    with item.open() as source:
        while piece := source.read(PIECE):
            state.update(piece)
            size += len(piece)
    return FileEntry(path, item.mode, size, state.digest())
