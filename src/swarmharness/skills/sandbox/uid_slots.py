"""A uid slot is a user id that nobody on this machine has, lent to one sandbox of a root daemon.

Theory of operation. The kernel does not count processes of real uid 0, and files of root open for
root: bubblewrap is never started as root. Several nodes may run as root on one machine, so a
slot is an exclusive lock on a file, and the kernel gives it back when its holder dies.
"""

from __future__ import annotations

import fcntl
import os
import pwd
from pathlib import Path
from typing import final

from swarmharness.skills.errors import Overloaded, SandboxUnavailable

FIRST_UID = 64100  # above every distribution's user range, below the 64K of nested containers
LAST_UID = 64199  # one hundred sandboxes at once is beyond any pool's budget
LOCK_DIRECTORY = Path("/run/swarmharness-uids")


@final
class UidSlot:
    """Held from the start of a sandbox until its last process is reaped."""

    def __init__(self, uid: int, lock: int) -> None:
        self.uid = uid
        self._lock = lock

    def release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def take_uid_slot(directory: Path = LOCK_DIRECTORY) -> UidSlot:
    """The first free slot; only root may call it."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SandboxUnavailable(
            f"A node that runs as root keeps its user-id locks in {directory}: {error.strerror}.",
            hint="Run the node as an ordinary user, or make /run writable.",
        ) from None
    for uid in range(FIRST_UID, LAST_UID + 1):
        if _has_name(uid):
            continue
        lock = os.open(directory / str(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return UidSlot(uid, lock)
    raise Overloaded(f"All user ids from {FIRST_UID} to {LAST_UID} are in use by sandboxes.")


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
