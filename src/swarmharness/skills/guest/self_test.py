"""The self-test is the guest of the probe: it does what it may, and tries what it may not.

It answers with facts only; what they mean is decided outside, where nobody can lie about it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import confine

DONE = "done"
_FORKS = 200  # far over any limit the probe sets, far under what would trouble a machine
_PATIENCE_SECONDS = 2.0  # for a connection that should be refused at once
_ANSWERS_BYTES = 64 * 1024
_VSOCK = 40
_MOUNT = {"x86_64": 165, "aarch64": 40}


def main() -> None:
    """Arguments: the descriptor to answer on, and a JSON object of what the probe laid out."""
    answers, orders = int(sys.argv[1]), json.loads(sys.argv[2])
    confine.confine_base()
    call_dir = Path(os.environ["TMPDIR"], "self-test")
    call_dir.mkdir()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        confine.confine_call(str(call_dir))
        os.write(writer, json.dumps(_all(orders, call_dir)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        report = stream.read(_ANSWERS_BYTES)
    os.waitpid(child, 0)
    os.write(answers, report)


def _all(orders: dict[str, Any], call_dir: Path) -> dict[str, Any]:
    trials: dict[str, Callable[[], object]] = {
        "usr": lambda: next(Path("/usr").iterdir()),
        "scratch": lambda: (call_dir / "x").write_text("x"),
        "key": Path(orders["key"]).read_bytes,
        "loopback": lambda: _connect(orders["port"]),
        "parent": lambda: os.kill(os.getppid(), 0),
        "vsock": lambda: socket.socket(_VSOCK, socket.SOCK_STREAM).close(),
        "forks": _fork_many,
        "mount": _mount,
    }
    answers: dict[str, Any] = {name: _try(trial) for name, trial in trials.items()}
    return {**answers, "echo": orders["echo"], "landlock": confine.landlock_abi()}


def _try(trial: Callable[[], object]) -> str:
    try:
        trial()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return DONE


def _connect(port: int) -> None:
    with socket.socket() as link:
        link.settimeout(_PATIENCE_SECONDS)
        link.connect(("127.0.0.1", port))


def _fork_many() -> None:
    children = []
    try:
        for _ in range(_FORKS):
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _mount() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_MOUNT[os.uname().machine], b"none", b"/tmp", b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
