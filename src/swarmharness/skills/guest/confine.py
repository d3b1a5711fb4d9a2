"""Confining is what the guest does to itself before foreign code runs; none of it can be undone.

Theory of operation. The namespaces around the sandbox protect the owner. What is added here
protects the sandbox from itself: limits on processes, memory and files, the lowest priority, and
Landlock. Landlock has layers. The *base* layer lets the whole sandbox write its scratch directory
only. Each forked call adds a second one: it writes its own call directory only, and its signals
reach nobody but its own children. The zygote, outside that second layer, can still end the call.

Where there is no mount namespace (`readable` is not empty) the base layer hides the rest of the
machine too. Standard library only; every step that this kernel knows must succeed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import stat
import struct
from collections.abc import Iterable
from typing import Any

CONFINEMENT_VARIABLE = "SWARM_CONFINEMENT"

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every machine type
_ASK_VERSION = 1
_RULE_PATH = 1
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IOPRIO_IDLE = 3 << 13
_LOWEST_NICE = 19
_CHILDREN_BYTES = 64 * 1024  # thousands of pids, far over any limit of processes

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_SINCE = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEVICE}
_NETWORK_ABI, _SCOPE_ABI = 4, 6
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2
_HARMLESS_DEVICES = ("/dev/null", "/dev/zero", "/dev/full")

_libc = ctypes.CDLL(None, use_errno=True)
_limits: dict[str, Any] = {}
_children_file = -1


def confine_base() -> None:
    """For the whole sandbox, once, after its sockets are open and before any import of a skill.

    The limits come from the environment, where the host put them, and are removed from it.
    """
    _limits.update(json.loads(os.environ.pop(CONFINEMENT_VARIABLE)))
    _end_without_node(_limits["lifeline"])
    _limit_resources()
    if _limits["low_priority"]:
        _lower_priority()
    renounce_privileges()
    _prctl(_PR_SET_DUMPABLE, 0)
    _keep_children_file(_limits.get("children_file", -1))
    if _limits["landlock"]:
        restrict(
            readable=_limits["readable"],
            writable=[_limits["scratch"], *_limits["writable"]],
            network=not _limits["readable"],
        )


def confine_call(call_dir: str) -> None:
    """For one forked call: it writes below `call_dir` only and signals only its own children."""
    global _children_file  # noqa: PLW0603  one process, one confinement
    if _children_file >= 0:
        os.close(_children_file)  # it tells of the zygote's children, not of ours
        _children_file = -1
    if _limits["cpu_seconds"] is not None:
        # The soft limit's signal can be caught, the hard one's cannot.
        seconds = _limits["cpu_seconds"]
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    _prctl(_PR_SET_DUMPABLE, 0)
    if _limits["landlock"]:
        restrict(readable=(), writable=[call_dir, *_limits["writable"]], network=True)


def own_children() -> list[int]:
    """The pids of this process's children, also where Landlock hides /proc."""
    file = _children_file if _children_file >= 0 else open_children_file()
    try:
        text = os.pread(file, _CHILDREN_BYTES, 0)
    finally:
        if file != _children_file:
            os.close(file)
    return [int(pid) for pid in text.split()]


def open_children_file() -> int:
    """A descriptor that lists this process's children whenever it is read."""
    return os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)


def landlock_abi() -> int:
    """0 where the kernel has no Landlock or it is switched off."""
    version: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    return max(0, version)


def restrict(*, readable: Iterable[str], writable: Iterable[str], network: bool) -> None:
    """Add one Landlock layer. With nothing readable named, reading stays as it is."""
    abi = landlock_abi()
    if abi == 0:
        return
    write = _WRITE_FILE | _REMOVE_AND_MAKE
    for since, right in _SINCE.items():
        write |= right if abi >= since else 0
    readable = list(readable)
    handled = write | (_READ if readable else 0)
    attributes = struct.pack(
        "=QQQ",
        handled,
        0 if network else _BIND_TCP | _CONNECT_TCP,
        _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS,
    )
    size = 24 if abi >= _SCOPE_ABI else 16 if abi >= _NETWORK_ABI else 8
    ruleset = _call(_CREATE_RULESET, attributes[:size], ctypes.c_size_t(size), 0)
    try:
        for path in readable:
            _allow(ruleset, path, handled & _READ)
        for path in writable:
            _allow(ruleset, path, handled)
        for path in _HARMLESS_DEVICES:
            _allow(ruleset, path, handled & (_READ_FILE | _WRITE_FILE | _TRUNCATE))
        renounce_privileges()
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def renounce_privileges() -> None:
    """No program started from here on gains any; the kernel demands it before a filter."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(parent: int, signal_number: int) -> None:
    """Get that signal when the process that started this one ends; `parent` tells a lost race."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        os._exit(1)


def _keep_children_file(inherited: int) -> None:
    """What is open stays readable, whatever is forbidden later, or was by the subreaper."""
    global _children_file  # noqa: PLW0603  one process, one confinement
    with contextlib.suppress(OSError):
        _children_file = inherited if inherited >= 0 else open_children_file()
        os.set_inheritable(_children_file, False)  # noqa: FBT003  the parameter has no name


def _end_without_node(lifeline: int) -> None:
    """Nobody writes to it: it can be read only when the node that held the other end is gone."""
    if select.select([lifeline], [], [], 0)[0]:
        os._exit(1)
    os.close(lifeline)


def _limit_resources() -> None:
    for name, value in (
        (resource.RLIMIT_DATA, _limits["data_bytes"]),
        (resource.RLIMIT_NPROC, _limits["nproc"]),
        (resource.RLIMIT_NOFILE, _limits["nofile"]),
        (resource.RLIMIT_FSIZE, _limits["fsize"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NICE, 0),
        (resource.RLIMIT_RTPRIO, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(name)[1]
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (wanted, wanted))


def _lower_priority() -> None:
    """SCHED_IDLE cannot be left again: that would need a nice limit, which is 0."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, _LOWEST_NICE)
    _call(_IOPRIO_SET[os.uname().machine], 1, 0, _IOPRIO_IDLE)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _ON_FILES
        _call(_ADD_RULE, ruleset, _RULE_PATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def _call(number: int, *arguments: Any) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result
