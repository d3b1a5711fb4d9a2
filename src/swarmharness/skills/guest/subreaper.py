"""The subreaper stands in for a namespace init where the machine allows no namespaces (tier 2).

Theory of operation. Every process of the sandbox stays its descendant, because orphans come back
to it. It is not confined itself and the guest cannot reach it: Landlock's signal scope and the
seccomp filter stand between. It starts one program inside both, and when that ends, or when the
node ends, it kills what is left until nothing is. It kills by descent, never by user: on an
ordinary user's machine the same user owns everything else.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import NoReturn

from . import confine

_PR_SET_CHILD_SUBREAPER, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 36, 22, 2
_PROGRAM_BYTES = 64 * 1024  # the kernel takes at most 4096 steps of 8 bytes
_PAUSE_SECONDS = 0.001  # between two rounds of killing, for the kernel to deliver


def main() -> NoReturn:
    """Arguments: the node's pid, the descriptor of the seccomp program, the command."""
    parent, program_descriptor, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    signal.signal(signal.SIGTERM, lambda *_: _end(128 + signal.SIGTERM))
    confine.die_with_parent(parent, signal.SIGTERM)
    os.setsid()
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("this kernel has no subreapers")
    with os.fdopen(program_descriptor, "rb") as stream:
        program = stream.read(_PROGRAM_BYTES)
    me = os.getpid()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        confine.die_with_parent(me, signal.SIGKILL)
        limits = json.loads(os.environ[confine.CONFINEMENT_VARIABLE])
        limits["children_file"] = confine.open_children_file()
        os.set_inheritable(limits["children_file"], True)  # noqa: FBT003  the parameter has no name
        os.environ[confine.CONFINEMENT_VARIABLE] = json.dumps(limits)
        if limits["landlock"]:
            confine.restrict(
                readable=limits["readable"],
                writable=[limits["scratch"], *limits["writable"]],
                network=False,
            )
        confine.renounce_privileges()
        _filter_calls(program)
        os.execv(command[0], command)  # noqa: S606  the command is the node's own
    while True:
        pid, status = os.wait()
        if pid == child:
            _end(os.waitstatus_to_exitcode(status) & 0xFF)


def _filter_calls(program: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    steps = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(steps))
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the system-call filter was refused")


def _end(status: int) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            os._exit(status)
        time.sleep(_PAUSE_SECONDS)


def _descendants(pid: int) -> list[int]:
    found = []
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            found.append(child)
            waiting.append(child)
    return found


def _children(pid: int) -> list[int]:
    """A process that is gone by now has none."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text(encoding="ascii").split())
    return children
