"""A scratch directory is where a sandbox without a mount namespace of its own keeps its files.

Theory of operation. It lies among the temporary files of this machine and is removed when its
sandbox has ended. A node that is killed by force removes nothing, so each node sweeps before its
first use. Whose node is still there is told by a lock on the directory, which the kernel gives
back when its holder dies. A directory is new for an instant before it is locked; whoever finds it
locked or gone by then makes another.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import final

from swarmharness.skills.errors import SandboxUnavailable
from swarmharness.skills.sandbox.uid_slots import FIRST_UID, LAST_UID

PREFIX = "swarm-scratch-"
MAX_SWEPT = 1000  # removed at one start; a node has a hundred sandboxes at most
MAX_ATTEMPTS = 10  # another node would have to sweep in the same instant each time

_log = logging.getLogger(__name__)


@final
class ScratchDirectory:
    """Held from before a sandbox starts until its last process is reaped."""

    def __init__(self, owner: int) -> None:
        """`owner` is the user that the sandbox runs as."""
        sweep_once()
        self.path, self._lock = _make()
        if os.geteuid() != owner:
            os.chown(self.path, owner, owner)

    def remove(self) -> None:
        _remove(self.path)
        os.close(self._lock)


@cache
def sweep_once() -> None:
    """Once in a node's life is enough: its own sandboxes clean up after themselves."""
    try:
        sweep(Path(tempfile.gettempdir()))
    except OSError as error:
        _log.warning("what killed nodes left is not swept: %s", error)


def sweep(directory: Path) -> None:
    """Removes what killed nodes of this user left."""
    count = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if count == MAX_SWEPT:
                return
            if entry.name.startswith(PREFIX) and _is_ours(entry):
                count += _sweep_one(entry.path)


def _sweep_one(path: str) -> bool:
    try:
        lock = _locked(path)
    except OSError as error:
        _log.info("leaving %s: %s", path, error.strerror)
        return False
    if lock is None:
        return False
    try:
        _remove(path)
    finally:
        os.close(lock)
    return True


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """A node that runs as root gives its directories to the users that it makes up."""
    if not entry.is_dir(follow_symlinks=False):
        return False
    owner, own = entry.stat(follow_symlinks=False).st_uid, os.geteuid()
    return owner == own or (own == 0 and FIRST_UID <= owner <= LAST_UID)


def _make() -> tuple[str, int]:
    for _ in range(MAX_ATTEMPTS):
        path = tempfile.mkdtemp(prefix=PREFIX)
        lock = _locked(path)
        if lock is not None:
            return path, lock
    raise SandboxUnavailable("No scratch directory could be kept: others remove them at once.")


def _locked(path: str) -> int | None:
    """A descriptor that holds the directory, or None if somebody else has it or it is gone."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), Path(path).lstat()):
            return lock
    os.close(lock)
    return None


def _remove(path: str) -> None:
    """Everything in there was written by a guest that is dead by now."""
    try:
        if os.geteuid() != 0:
            _open_up(path)
        shutil.rmtree(path)
    except (OSError, RecursionError) as error:
        _log.warning("the scratch directory %s stays: %s", path, error)


def _open_up(path: str) -> None:
    """An ordinary user cannot list directories without permissions, not even to remove them."""
    for place, directories, _ in os.walk(path):
        for inner in (Path(place, name) for name in directories):
            if not inner.is_symlink():
                inner.chmod(0o700)
