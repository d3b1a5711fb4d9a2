"""The machine is what the figures were taken on, and what its processes have used so far."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import final

import msgspec

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@final
class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Its size and its software."""

    date: str
    cores: int
    memory_mib: int
    python: str
    kernel: str
    load: float
    """Of the minute before the run: above the number of cores, others were measured, too."""


def this_machine() -> Machine:
    """As it is now."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        date=datetime.now(UTC).date().isoformat(),
        cores=len(os.sched_getaffinity(0)),
        memory_mib=memory // 1024**2,
        python=platform.python_version(),
        kernel=platform.release(),
        load=round(os.getloadavg()[0], 2),
    )


def descendants(pid: int) -> list[int]:
    """The processes below this one."""
    found: list[int] = []
    try:
        for task in (_PROC / str(pid) / "task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except (FileNotFoundError, ProcessLookupError):
        return found  # it ended while it was looked at
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of one running process, without its children."""
    return sum(_times(pid)[:2])


def cpu_seconds_below(pid: int) -> float:
    """Of all its descendants, those included that have ended and were waited for."""
    living = 0.0
    for child in descendants(pid):
        try:
            living += sum(_times(child))
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile: its parent has its time now
    return living + sum(_times(pid)[2:])


def _times(pid: int) -> list[float]:
    """User, system, and both of children waited for."""
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return [int(field) / _TICKS_PER_SECOND for field in fields[11:15]]


def resident_bytes(pid: int) -> int:
    """What of the process is in memory, shared pages included."""
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("a running process has a resident size")
