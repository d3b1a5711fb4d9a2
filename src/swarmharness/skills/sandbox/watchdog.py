"""The watchdog looks from outside at what a sandbox uses, and raises the alarm over too much.

Theory of operation. Figures from inside would be claims of foreign code, so everything is read
from /proc of the host, for the whole tree below the sandbox's init. Orphans come back to init,
and a reaped child's time is added to its parent's, so no work escapes by dying.

Memory is judged in two steps. Resident sizes are cheap to read, but count what forks share once
per process: sixty small children of one zygote look like a gigabyte. Only a sum over the limit is
checked again with proportional sizes, which are exact and slow. A limit on each process
(RLIMIT_DATA) holds besides; this one holds for all of them together and for shared mappings.

Processes and threads are counted on the same walk. Where the kernel's own limit is exact it bites
first; in a tier without user namespaces it allows for what else the owner runs, and this one holds.

It watches from the launch to the death, because import code is foreign code already. An idle
sandbox is looked at seldom, but has less excuse: processes that outlive their call, and processor
time that nobody asked for, count against it at several looks in a row, which lets honest ones
finish what they were at.

The moment between two looks is the price of not having a control group: 50 ms at memory speed
overshot a limit of 512 MiB by 77 when measured.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple, final

from swarmharness.skills.sandbox.confinement import NPROC, TOTAL_BYTES

WATCH_SECONDS = 0.05  # one look costs under a millisecond
IDLE_WATCH_SECONDS = 1.0  # an idle machine stays idle: dozens of sandboxes cost nothing
IDLE_LOOKS = 3  # in a row; the end of a child or a collection of garbage takes less
IDLE_CPU_PERCENT = 20  # of one processor; honest idling takes none
TREE_THREADS = NPROC + 8  # the kernel's limit where it is exact, and the sandbox's own first few
MAX_PROCESSES = 4096  # far above any NPROC; a walk over /proc must end
_KIB = 1024
_TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // _KIB


class TreeUsage(NamedTuple):
    """What a sandbox has used (time) and uses now (memory, processes)."""

    cpu_ms: int
    rss_kib: int
    processes: int
    threads: int
    """Of all processes together; what RLIMIT_NPROC counts."""


class Breach(NamedTuple):
    """What the watchdog found: `memory` in KiB, `processes` (and threads).

    While there is no work also `leftovers` (processes) and `burning` (percent of a processor).
    """

    kind: Literal["memory", "processes", "leftovers", "burning"]
    found: int


@final
class TreeMeter:
    """The usage of one process and all its descendants."""

    def __init__(self, init_pid: int) -> None:
        self._init_pid = init_pid
        self.max_cpu_ms = 0
        """The most seen by any look since the last `reset_max`: the time of a child that nobody
        waited for is lost to the kernel's accounts once it has ended."""
        self.max_rss_kib = 0

    def reset_max(self) -> None:
        self.max_cpu_ms = 0
        self.max_rss_kib = 0

    def sample(self) -> TreeUsage:
        """A child that is reaped during the walk is missed once."""
        cpu_ms = rss_kib = processes = threads = 0
        for pid, own_threads in self._tree():
            with suppress(OSError):
                cpu_ms += _cpu_ms(pid)
                rss_kib += _resident_kib(pid)
                processes += 1
                threads += own_threads
        self.max_cpu_ms = max(self.max_cpu_ms, cpu_ms)
        self.max_rss_kib = max(self.max_rss_kib, rss_kib)
        return TreeUsage(cpu_ms, rss_kib, processes, threads)

    def exact_kib(self) -> int:
        """Shared pages counted once; a process that hides its share counts without its files."""
        total = 0
        for pid, _ in self._tree():
            with suppress(OSError):
                total += _proportional_kib(pid)
        return total

    def _tree(self) -> Iterator[tuple[int, int]]:
        """Each process with its number of threads.

        Parents before children: a child reaped in between is missed, never counted twice.
        """
        waiting = [self._init_pid]
        for _ in range(MAX_PROCESSES):
            if not waiting:
                return
            pid = waiting.pop()
            threads = 0
            with suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    threads += 1
                    waiting += map(int, (thread / "children").read_text().split())
            yield pid, threads


@final
class Watchdog:
    """Looks at a tree from `start` to `stop`; calls `on_breach` once, then stops by itself."""

    def __init__(
        self,
        meter: TreeMeter,
        on_breach: Callable[[Breach], None],
        *,
        limit_bytes: int = TOTAL_BYTES,
        limit_threads: int = TREE_THREADS,
    ) -> None:
        self._meter = meter
        self._on_breach = on_breach
        self._limit_kib = limit_bytes // _KIB
        self._limit_threads = limit_threads
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._idle_processes: int | None = None
        self._last_idle: tuple[float, int] | None = None
        self._looks_with_leftovers = 0
        self._looks_burning = 0

    def start(self) -> None:
        """There is work: look every 50 ms."""
        self._idle_processes = None
        self._last_idle = None
        self._looks_burning = 0
        soon = self._loop.time() + WATCH_SECONDS
        if self._timer is not None and self._timer.when() > soon:
            self.stop()
        if self._timer is None:
            self._timer = self._loop.call_at(soon, self._look)

    def rest(self, processes: int) -> None:
        """There is no work for now, and no reason for more than so many processes.

        The look that is due is kept: short calls in a row must not outrun every one of them.
        """
        self._idle_processes = processes

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        breach = self._judge(self._meter.sample())
        if breach is not None:
            self._on_breach(breach)
            return
        pause = WATCH_SECONDS if self._idle_processes is None else IDLE_WATCH_SECONDS
        self._timer = self._loop.call_later(pause, self._look)

    def _judge(self, usage: TreeUsage) -> Breach | None:
        if usage.threads > self._limit_threads:
            return Breach("processes", usage.threads)
        if usage.rss_kib > self._limit_kib:
            exact = self._meter.exact_kib()
            if exact > self._limit_kib:
                return Breach("memory", exact)
        if self._idle_processes is None:
            return None
        return self._judge_idle(usage, self._idle_processes)

    def _judge_idle(self, usage: TreeUsage, processes: int) -> Breach | None:
        now = self._loop.time()
        since, cpu_ms = self._last_idle or (now, usage.cpu_ms)
        self._last_idle = (now, usage.cpu_ms)
        percent = round((usage.cpu_ms - cpu_ms) / (now - since) / 10) if now > since else 0
        self._looks_burning = self._looks_burning + 1 if percent > IDLE_CPU_PERCENT else 0
        # Calls in between do not acquit a worker of what an earlier one has left.
        has_leftovers = usage.processes > processes
        self._looks_with_leftovers = self._looks_with_leftovers + 1 if has_leftovers else 0
        if self._looks_with_leftovers >= IDLE_LOOKS:
            return Breach("leftovers", usage.processes - processes)
        if self._looks_burning >= IDLE_LOOKS:
            return Breach("burning", percent)
        return None


def _cpu_ms(pid: int) -> int:
    """User and system time of the process and of its reaped children."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * _TICK_MS


def _resident_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_KIB


def _proportional_kib(pid: int) -> int:
    try:
        return _sum_of_fields(pid, "smaps_rollup", ("Pss:",))
    except PermissionError:
        # Without a user namespace, a process of our own user may refuse to be looked into.
        return _sum_of_fields(pid, "status", ("RssAnon:", "RssShmem:"))


def _sum_of_fields(pid: int, file: str, names: tuple[str, ...]) -> int:
    text = Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8", errors="replace")
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(names))
