"""Meters read from outside what a call used: the guest's own figures are never asked for.

The kernel counts processor time in ticks of 10 ms, and adds a forked call's time to its zygote
once that has reaped it. So both readings are of the one process that imported the skill.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_TICK_MS: Final = 1000 // os.sysconf("SC_CLK_TCK")
_UTIME: Final = 11  # utime, stime, cutime, cstime follow each other; counted after the name


def guest_pid_of(init_pid: int) -> int:
    """The first process behind the namespace's init, or init itself where it is the guest."""
    try:
        children = Path(f"/proc/{init_pid}/task/{init_pid}/children").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(children.split()[0]) if children.split() else init_pid


def cpu_ms_of(pid: int) -> int:
    """With its reaped children; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:  # noqa: PTH123  twice per call: kept lean
            fields = stream.read()
    except OSError:
        return 0
    times = fields[fields.rindex(b")") + 2 :].split()[_UTIME : _UTIME + 4]
    return sum(int(time) for time in times) * _TICK_MS


def peak_rss_kib_of(pid: int) -> int:
    """The highest resident size that the process has had; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:  # noqa: PTH123
            status = stream.read()
    except OSError:
        return 0
    start = status.find(b"VmHWM:")
    return int(status[start + 6 :].split(None, 1)[0]) if start >= 0 else 0
