"""An environment lock keeps builders, users and evictors of one environment apart, across nodes.

Theory of operation. The lock is the kernel's advisory lock on a small file beside the environment.
Builders and evictors hold it exclusively, every sandbox that mounts the environment shares it. A
crash releases it, so there are no stale locks and no process ids to guess about. An exclusive
holder removes the file at the end, so that none are left of evicted environments; therefore a lock
counts only if its file is still the one with that name.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Self, final

POLL_SECONDS = 0.1  # the kernel cannot wake a coroutine when a file lock comes free


@final
class EnvironmentLock:
    """Held from `take` to `release`."""

    def __init__(self, path: Path, descriptor: int, *, exclusive: bool) -> None:
        self._path = path
        self._exclusive = exclusive
        self._descriptor = descriptor

    @classmethod
    def try_take(cls, path: Path, *, exclusive: bool) -> Self | None:
        """None: somebody holds it in a way that excludes this one."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return cls(path, descriptor, exclusive=exclusive)
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    @classmethod
    async def take(cls, path: Path, *, exclusive: bool) -> Self:
        """Waits as long as the caller's time-out lets it."""
        while True:
            lock = cls.try_take(path, exclusive=exclusive)
            if lock is not None:
                return lock
            await asyncio.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Twice is harmless."""
        if self._descriptor < 0:
            return
        if self._exclusive:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1
