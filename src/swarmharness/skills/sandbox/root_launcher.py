"""The root launcher is the short program in which a root daemon stops being root.

Theory of operation. A separate process, because a mount namespace and a user id are properties of
a whole process. It reads its orders from a descriptor (they may hold secrets, and a command line
is public), makes a private mount namespace, binds what an unprivileged user could not reach (an
interpreter in a private home, snapshots in a private data directory) below a neutral directory,
drops to the slot's uid for good, checks that it can read what it was given, and becomes the
next program. Standard library only: it runs with `-I -S`.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
_ORDERS_BYTES = 1 << 20  # a hundred mounts with long paths are below
FAILED = 71  # EX_OSERR

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Never returns: it becomes the next program, or says why not and exits."""
    orders_descriptor = int(sys.argv[1])
    with os.fdopen(orders_descriptor, "rb") as stream:
        orders = json.loads(stream.read(_ORDERS_BYTES))
    if orders["binds"]:
        _bind_all(orders["neutral"], orders["binds"])
    os.setgroups([])
    os.setresgid(orders["uid"], orders["uid"], orders["uid"])
    os.setresuid(orders["uid"], orders["uid"], orders["uid"])
    # Asked for after the change of user, which clears it; the check closes the race before it.
    if _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL) != 0 or os.getppid() != orders["parent"]:
        sys.exit(FAILED)
    for path in orders["readable"]:
        if not os.access(path, os.R_OK):
            sys.exit(f"user {orders['uid']} of the sandbox cannot read {path}")
    os.execve(orders["argv"][0], orders["argv"], orders["environment"])  # noqa: S606  the node's own


def _bind_all(neutral: str, binds: list[list[str]]) -> None:
    """Sources are opened first: the neutral directory may hide the very place they are in."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE, None)
    opened = [(os.open(source, os.O_PATH), target) for source, target in binds]
    _mount("tmpfs", neutral, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=64k")
    for descriptor, target in opened:
        source = Path(f"/proc/self/fd/{descriptor}")
        place = Path(target)
        (place if source.is_dir() else place.parent).mkdir(mode=0o755, parents=True, exist_ok=True)
        if not source.is_dir():
            place.touch(mode=0o644)
        _mount(str(source), target, None, _MS_BIND | _MS_REC, None)
        os.close(descriptor)


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None
) -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind, options)]
    result = _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    _check(result, f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        sys.exit(f"{what}: {os.strerror(error)}")


if __name__ == "__main__":
    main()
