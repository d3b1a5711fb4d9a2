"""A snapshot is the read-only copy of a skill folder that sandboxes mount.

Theory of operation. What runs must be what was hashed, even while its author is saving files.
So files are copied into a temporary directory, hashed *as copied*, made read-only, and the
directory is renamed to the digest. A rename is atomic, hence a snapshot either exists whole or
not at all; what a crash leaves behind has a temporary name and is removed at the next start. A
crash of the whole machine may still leave a renamed directory whose contents never reached the
disk, so an existing snapshot is hashed again before it is trusted.

Folders over the size limit are not copied. They are mounted where they lie, and say so: their
digest describes them as they were when they were read.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import final

import msgspec

from swarmharness.skills.digest import Digest, Mode, content_digest
from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.io.listing import PIECE, Item, joined, read_listing, walk

SNAPSHOT_LIMIT = 256 * 1024 * 1024  # bytes; larger folders hold models, which are mounted live
SPARE_SNAPSHOTS = 16  # unused ones that are kept: going back to an earlier version is then free
_TEMPORARY = ".new-"


@final
class Snapshot(msgspec.Struct, frozen=True):
    """Where the content lies, and its digest. `is_pinned` is False for a folder mounted live."""

    digest: Digest
    path: Path
    is_pinned: bool


class SnapshotStore:
    """The directory of all snapshots of one node. Its methods block; call them in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> None:
        """Removes what a crash left behind."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._directory.glob(f"{_TEMPORARY}*"):
            _remove(left)

    def take(self, folder: Path) -> Snapshot:
        """The folder as it is now, or as good as now."""
        root = folder.resolve()
        return self._take(root, [(root, "")])

    def take_support(self, beside: Iterable[Path]) -> Snapshot:
        """All files and directories beside the skills, as one snapshot with their names."""
        paths = list(beside)
        root = paths[0].parent if paths else self._directory
        return self._take(root, [(path, path.name) for path in paths])

    def collect(self, in_use: Collection[Digest]) -> None:
        """Keeps what is in use and the newest few of the rest."""
        used = {digest.hex() for digest in in_use}
        spare = [
            path
            for path in self._directory.iterdir()
            if path.name not in used and not path.name.startswith(_TEMPORARY)
        ]
        spare.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in spare[SPARE_SNAPSHOTS:]:
            _remove(path)

    def _take(self, root: Path, parts: list[tuple[Path, str]]) -> Snapshot:
        if _size_of(parts) > SNAPSHOT_LIMIT:
            listing = [entry for path, prefix in parts for entry in read_listing(path, prefix)]
            return Snapshot(content_digest(listing), root, is_pinned=False)
        temporary = self._directory / f"{_TEMPORARY}{secrets.token_hex(8)}"
        temporary.mkdir(mode=0o755)
        try:
            copy = _Copy(temporary)
            for path, prefix in parts:
                copy.add(path, prefix)
            digest = content_digest(read_listing(temporary))
            place = self._directory / digest.hex()
            if place.exists() and content_digest(read_listing(place)) == digest:
                os.utime(place)
            else:
                _seal(temporary)
                if place.exists():
                    _remove(place)
                temporary.rename(place)
        finally:
            _remove(temporary)
        return Snapshot(digest, place, is_pinned=True)


def _size_of(parts: list[tuple[Path, str]]) -> int:
    sizes: list[int] = []
    for path, _ in parts:
        walk(path, lambda item: sizes.append(item.status.st_size))
    return sum(sizes)


@final
class _Copy:
    """Into a directory of our own, which nobody else changes."""

    def __init__(self, into: Path) -> None:
        self._into = into
        self._size = 0

    def add(self, path: Path, prefix: str) -> None:
        def visit(item: Item) -> None:
            target = self._into / joined(prefix, item.relative)
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if item.is_link:
                target.symlink_to(item.link_text())
                return
            self._size += _copy_file(item, target)
            if self._size > SNAPSHOT_LIMIT:
                raise BadSkillFile(
                    f"{path.name} grew beyond {SNAPSHOT_LIMIT} bytes while it was read"
                )

        walk(path, visit)


def _copy_file(item: Item, target: Path) -> int:
    size = 0
    with item.open() as reader, target.open("xb") as writer:
        while size <= SNAPSHOT_LIMIT and (piece := reader.read(PIECE)):
            writer.write(piece)
            size += len(piece)
    target.chmod(0o555 if item.mode is Mode.EXECUTABLE else 0o444)
    return size


def _seal(root: Path) -> None:
    for directory, _, _ in os.walk(root, topdown=False):
        Path(directory).chmod(0o555)


def _remove(root: Path) -> None:
    """Sealed directories open up first; one that is already gone is what was wanted."""
    for directory, _, _ in os.walk(root):
        Path(directory).chmod(0o755)
    shutil.rmtree(root, ignore_errors=not root.exists())
