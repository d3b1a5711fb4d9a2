"""The guard notices when a simulated program reaches for the real world.

Theory of operation. Two nets, since neither alone is enough. An audit hook sees what the
interpreter itself reports, however it was imported: new threads, sockets, name look-ups,
children. Reading a clock is not reported, so the functions of `time` are replaced while the
loop runs, and so is what older Pythons do not report. What neither can see is `datetime.now`
and a clock function that was imported by name before the run; the ban on those imports in
cores covers the first, and the injected `Clock` makes the second needless.

An audit hook cannot be removed. It is installed once and does nothing outside a run, and
nothing on other threads than the one that runs the loop.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from swarmharness.simulator.faults import ForbiddenUse

Report = Callable[[ForbiddenUse], None]

_AUDITED = {
    "_thread.start_new_thread": "started a thread",
    "_thread.start_joinable_thread": "started a thread",
    "socket.__new__": "opened a socket",
    "socket.getaddrinfo": "resolved a name",
    "socket.gethostbyname": "resolved a name",
    "socket.gethostbyaddr": "resolved a name",
    "socket.getnameinfo": "resolved a name",
    "subprocess.Popen": "started a process",
    "os.fork": "forked",
    "os.forkpty": "forked",
    "os.posix_spawn": "started a process",
    "os.spawn": "started a process",
    "os.system": "started a process",
    "time.sleep": "slept in real time",
}

_REPLACED: tuple[tuple[Any, str, str], ...] = (
    # Python 3.11 reports neither of the first two.
    (threading.Thread, "start", "started a thread"),
    (time, "sleep", "slept in real time"),
    (time, "time", "read the real clock"),
    (time, "time_ns", "read the real clock"),
    (time, "monotonic", "read the real clock"),
    (time, "monotonic_ns", "read the real clock"),
    (time, "perf_counter", "read the real clock"),
    (time, "perf_counter_ns", "read the real clock"),
    (signal, "signal", "changed a signal handler"),
    # Its order of results follows memory addresses, whatever the loop does.
    (asyncio, "as_completed", "used as_completed, whose order cannot be repeated"),
)

OBSERVERS = frozenset({"logging", "hypothesis", "_pytest", "coverage"})
"""Packages that may read the real clock: they watch a run and never steer it."""

_watch: tuple[int, Report] | None = None  # thread of the running loop, and where to complain
_hooked = False


@contextmanager
def guarded(report: Report) -> Iterator[None]:
    """Every forbidden use on this thread raises where it happens and goes to `report` too."""
    global _watch, _hooked  # noqa: PLW0603  an audit hook belongs to the whole interpreter
    assert _watch is None, "one simulated run at a time"
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in _REPLACED]
    _watch = (threading.get_ident(), report)
    try:
        for owner, name, deed in _REPLACED:
            refusing = _refusing(getattr(owner, name), f"{owner.__name__}.{name}", deed)
            setattr(owner, name, refusing)
        yield
    finally:
        _watch = None
        for owner, name, original in originals:
            setattr(owner, name, original)


def _audit(event: str, _arguments: tuple[Any, ...]) -> None:
    if _watch is not None and event in _AUDITED and threading.get_ident() == _watch[0]:
        _refuse(event, _AUDITED[event])


def _refusing(original: Callable[..., Any], name: str, deed: str) -> Callable[..., Any]:
    def refuse(*arguments: Any, **named: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001  no public way
        foreign = _watch is None or threading.get_ident() != _watch[0]
        if foreign or caller.partition(".")[0] in OBSERVERS:
            return original(*arguments, **named)
        _refuse(name, deed)
        return None

    return refuse


def _refuse(name: str, deed: str) -> None:
    assert _watch is not None
    fault = ForbiddenUse(f"The simulated program {deed} ({name}): a replay could not repeat it.")
    _watch[1](fault)
    raise fault
