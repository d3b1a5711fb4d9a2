"""A sandbox process is the host's handle on a running sandbox: its pids, its last words, its end.

Theory of operation. Two processes matter. The *outer* one is our child: bubblewrap waiting for
its namespace, or the subreaper where there is none. The *init* is the first process inside the
pid namespace; when it dies, the kernel kills everything in there before it can be reaped. So the
end is: kill init, then reap outer. Killing outer first would leave zombies behind. Both are held
by pidfd, because a pid can be somebody else's by the time a signal arrives.

All methods belong to the event loop's thread, which also started the process: the kernel's
"die with parent" means the *thread* that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import final

from swarmharness.skills.errors import SandboxStuck
from swarmharness.skills.sandbox.confinement import STDERR_BYTES, visible_path
from swarmharness.skills.sandbox.tiers import Tier

REAP_SECONDS = 1.0  # measured 13 ms; a loaded machine with 64 processes needs a few hundred
_READ_BYTES = 16 * 1024


@final
class SandboxProcess:
    """Started by `launch`; whoever holds it must `kill` it or `wait` for its end."""

    def __init__(
        self,
        outer: subprocess.Popen[bytes],
        *,
        tier: Tier,
        uid: int,
        paths: Mapping[str, str],
        at_end: Callable[[], None],
    ) -> None:
        assert outer.stderr is not None
        self.tier = tier
        self.uid = uid
        """The user of this machine that the sandbox runs as."""
        self.outer_pid = outer.pid
        self.init_pid = outer.pid
        self._outer = outer
        self._paths = paths
        self._at_end = at_end
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._tail = bytearray()
        self._stderr = outer.stderr
        os.set_blocking(self._stderr.fileno(), False)
        self._outer_pidfd = os.pidfd_open(outer.pid)
        self._init_pidfd = -1
        self._loop.add_reader(self._stderr.fileno(), self._read_stderr)
        self._loop.add_reader(self._outer_pidfd, self._reap)

    def __repr__(self) -> str:
        state = "ended" if self.has_ended else "running"
        return f"SandboxProcess(init_pid={self.init_pid}, tier={self.tier.value}, {state})"

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    @property
    def status(self) -> int | None:
        """The exit status of the outer process; None while it runs."""
        return self._outer.returncode

    def inside(self, target: str) -> str:
        """What the guest must call a mount's target: the same, unless there are no namespaces."""
        return visible_path(self._paths, target)

    def stderr_tail(self) -> str:
        """The last 64 KiB that the guest wrote to its standard error."""
        return self._tail.decode(errors="replace")

    def adopt_init(self, pid: int) -> None:
        """Take hold of the namespace's init; one that is gone already needs no holding."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        if self.has_ended or _parent_of(pid) != self.outer_pid:
            os.close(descriptor)
            return
        self.init_pid = pid
        self._init_pidfd = descriptor

    async def wait(self) -> int:
        """Returns once everything in the sandbox is dead and reaped."""
        await self._ended.wait()
        status = self.status
        assert status is not None
        return status

    async def kill(self) -> int:
        """Everything in the sandbox dies; `SandboxStuck` if the kernel does not let it."""
        if self.has_ended:
            return await self.wait()
        if self._init_pidfd >= 0:
            _signal(self._init_pidfd, signal.SIGKILL)
        else:
            # The subreaper ends its descendants first; bubblewrap before its namespace just dies.
            _signal(self._outer_pidfd, signal.SIGTERM)
        for _ in range(2):
            try:
                async with asyncio.timeout(REAP_SECONDS):
                    return await self.wait()
            except TimeoutError:
                if not self.has_ended:
                    _signal(self._outer_pidfd, signal.SIGKILL)
        raise SandboxStuck(
            f"Sandbox process {self.init_pid} is still there after {2 * REAP_SECONDS:.0f} s.",
            data={"init_pid": self.init_pid, "outer_pid": self.outer_pid},
        )

    def _read_stderr(self) -> None:
        try:
            data = os.read(self._stderr.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._stderr.fileno())
            return
        self._tail += data
        del self._tail[:-STDERR_BYTES]

    def _reap(self) -> None:
        self._loop.remove_reader(self._outer_pidfd)
        self._outer.wait()
        self._drain_stderr()
        self._loop.remove_reader(self._stderr.fileno())
        self._stderr.close()
        os.close(self._outer_pidfd)
        if self._init_pidfd >= 0:
            os.close(self._init_pidfd)
            self._init_pidfd = -1
        self._at_end()
        self._ended.set()

    def _drain_stderr(self) -> None:
        # Bounded: everything that could still write is dead, and a pipe holds 64 KiB.
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._stderr.fileno(), _READ_BYTES):
                self._tail += data
                del self._tail[:-STDERR_BYTES]


def _signal(pidfd: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def _parent_of(pid: int) -> int:
    """0 for a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(fields.rpartition(")")[2].split()[1])
