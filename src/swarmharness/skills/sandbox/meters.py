"""Meters read from outside what a call used: the guest's own figures are never asked for.

The kernel counts processor time in ticks of 10 ms, and adds a forked call's time to its zygote
once that has reaped it. So both readings are of the one process that imported the skill. Children
that nobody waits for (`SIGCHLD` ignored) are in no account of the kernel's: of those only what the
watchdog happened to see is known, so a call may be charged less than it used, never more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple, final

_TICK_MS: Final = 1000 // os.sysconf("SC_CLK_TCK")
_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024
_STAT_BYTES: Final = 1024  # 52 numbers and a short name
_UTIME: Final = 11  # utime, stime, cutime, cstime follow each other; counted after the name
_RSS: Final = 21


class ProcessReading(NamedTuple):
    """Processor time so far, with reaped children; memory now."""

    cpu_ms: int
    rss_kib: int


def guest_pid_of(init_pid: int) -> int:
    """The first process behind the namespace's init, or init itself where it is the guest."""
    try:
        children = Path(f"/proc/{init_pid}/task/{init_pid}/children").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(children.split()[0]) if children.split() else init_pid


@final
class ProcessMeter:
    """Reads one process; its file stays open, which halves the cost and outlives a reused pid."""

    def __init__(self, pid: int) -> None:
        self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> ProcessReading:
        """Zeroes when the process is gone."""
        try:
            stat = os.pread(self._stat, _STAT_BYTES, 0)
        except ProcessLookupError:
            return ProcessReading(0, 0)
        fields = stat[stat.rindex(b")") + 2 :].split()
        cpu_ticks = sum(map(int, fields[_UTIME : _UTIME + 4]))
        return ProcessReading(cpu_ticks * _TICK_MS, int(fields[_RSS]) * _PAGE_KIB)

    def close(self) -> None:
        os.close(self._stat)
