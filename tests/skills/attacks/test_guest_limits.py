"""What confines a guest, read back by the guest itself: each mechanism is seen to be in force."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from skills.attacks.engine_range import call_hostile, hostile_executor
from skills.attacks.firing_range import orders
from skills.attacks.host_world import host_world
from skills.denied_calls import MACHINES
from swarmharness.skills.guest import confine
from swarmharness.skills.sandbox.confinement import (
    DATA_BYTES,
    MIB,
    NOFILE,
    NPROC,
    SHARED_NPROC,
    SHM_BYTES,
)
from swarmharness.skills.sandbox.runnable import Isolation, Resources
from swarmharness.skills.sandbox.tiers import Tier

CAPGET = dict(zip(MACHINES, (125, 90), strict=True))[os.uname().machine]
NAMESPACES = ("user", "ipc", "pid", "net", "uts", "mnt")
ANYTHING_ELSE_RUNS = 4096  # threads of the user outside the sandbox, where they count as well

ZERO = ("CORE", "NICE", "RTPRIO", "MEMLOCK", "MSGQUEUE")
_LIMIT = "import resource; result = resource.getrlimit(resource.RLIMIT_{})"
_PRCTL = "result = ctypes.CDLL(None).prctl({}, 0, 0, 0, 0)"
PROPERTIES = {
    **{name: _LIMIT.format(name) for name in (*ZERO, "NOFILE", "FSIZE", "DATA", "NPROC")},
    "dumpable": _PRCTL.format(3),
    "seccomp": _PRCTL.format(21),
    "no new privileges": _PRCTL.format(39),
    "capabilities": (
        "head = (ctypes.c_uint32 * 2)(0x20080522, 0); sets = (ctypes.c_uint32 * 6)(*[9] * 6)\n"
        f"syscall({CAPGET}, ctypes.addressof(head), ctypes.addressof(sets)); result = list(sets)"
    ),
}
INSIDE_NAMESPACES = {
    **{name: f"result = os.readlink('/proc/self/ns/{name}')" for name in NAMESPACES},
    **{
        f"{path} flags": f"result = os.statvfs('{path}').f_flag & {os.ST_RDONLY | os.ST_NOSUID}"
        for path in ("/", "/dev", "/usr", "/tmp", "/dev/shm")
    },
    "shared memory": ("found = os.statvfs('/dev/shm'); result = found.f_blocks * found.f_frsize"),
    "host name": "result = os.uname().nodename",
}
READ_ONLY, WRITABLE = os.ST_RDONLY | os.ST_NOSUID, os.ST_NOSUID


def test_every_limit_is_set_whatever_this_machine_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most systems keep some of them at 0 anyway, where a guest could not tell the difference."""
    given: dict[int, tuple[int, int]] = {}
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(confine.resource, "getrlimit", lambda _: infinite)
    monkeypatch.setattr(confine.resource, "setrlimit", given.__setitem__)
    sizes = {"data_bytes": 1, "nproc": 2, "nofile": 3, "fsize": 4}
    monkeypatch.setattr(confine, "_limits", sizes)
    confine._limit_resources()
    expected = {"DATA": 1, "NPROC": 2, "NOFILE": 3, "FSIZE": 4, **dict.fromkeys(ZERO, 0)}
    assert given == {getattr(resource, f"RLIMIT_{n}"): (v, v) for n, v in expected.items()}


async def read_back(codes: dict[str, str], tier: Tier, isolation: Isolation) -> dict[str, Any]:
    with host_world() as facts, orders([], facts) as folder:
        async with hostile_executor(folder, tier, isolation) as executor:
            return await call_hostile(executor, codes, facts)


@pytest.mark.parametrize("isolation", list(Isolation))
@pytest.mark.parametrize("tier", [Tier.FULL, Tier.LANDLOCK_ONLY])
async def test_the_limits_of_a_guest(tier: Tier, isolation: Isolation) -> None:
    found = await read_back(PROPERTIES, tier, isolation)
    processes = found.pop("NPROC").removeprefix("done: ").strip("()").split(", ")
    scratch = Resources().disk_mb * MIB
    assert found == {
        **dict.fromkeys(ZERO, "done: (0, 0)"),
        "NOFILE": f"done: ({NOFILE}, {NOFILE})",
        "DATA": f"done: ({DATA_BYTES}, {DATA_BYTES})",
        "FSIZE": f"done: ({scratch}, {scratch})",
        "dumpable": "done: 0",
        "seccomp": "done: 2",
        "no new privileges": "done: 1",
        "capabilities": f"done: {[0] * 6}",
    }
    soft, hard = map(int, processes)
    most = NPROC if tier.has_namespaces else NPROC + SHARED_NPROC + ANYTHING_ELSE_RUNS
    assert NPROC <= soft == hard <= most


@pytest.mark.parametrize("isolation", list(Isolation))
async def test_a_guest_has_a_world_of_its_own(isolation: Isolation) -> None:
    found = await read_back(INSIDE_NAMESPACES, Tier.FULL, isolation)
    for name in NAMESPACES:
        answer = found.pop(name).removeprefix("done: ").strip("'")
        assert answer.startswith(f"{name}:["), answer
        assert answer != str(Path(f"/proc/self/ns/{name}").readlink())
    assert found == {
        "/ flags": f"done: {READ_ONLY}",
        "/dev flags": f"done: {READ_ONLY}",
        "/usr flags": f"done: {READ_ONLY}",
        "/tmp flags": f"done: {WRITABLE}",
        "/dev/shm flags": f"done: {WRITABLE}",
        "shared memory": f"done: {SHM_BYTES}",
        "host name": "done: 'sandbox'",
    }
