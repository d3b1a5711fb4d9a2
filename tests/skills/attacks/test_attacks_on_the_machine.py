"""Attacks on what the machine shares: memory of many processes, many files, setuid programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from skills.attacks.engine_range import call_hostile, hostile_executor
from skills.attacks.firing_range import orders
from skills.attacks.host_world import host_world
from swarmharness.skills.sandbox.runnable import Isolation, Resources
from swarmharness.skills.sandbox.tiers import Tier

TIERS = [Tier.FULL, Tier.LANDLOCK_ONLY]
SOMEBODY = 64991  # a user that is neither root nor the sandbox's

EIGHT_CHILDREN = {
    "bomb": (
        "import time\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0: block = bytearray(60 << 20); time.sleep(20); os._exit(0)\n"
        "for _ in range(8): os.wait()"
    )
}
MANY_FILES = {
    "flood": (
        "for n in range(600): os.close(os.open(f'{call_dir}/left{n}', os.O_CREAT | os.O_WRONLY))\n"
        "result = len(os.listdir(call_dir)) >= 600"
    )
}
FIND_FILES = {
    "found": "result = sum('left0' in names for _, _, names in os.walk(call_dir + '/..'))"
}
RUN_SETUID = {
    "user": (
        "import subprocess\n"
        "ran = subprocess.run([app + '/id', '-u'], capture_output=True, text=True)\n"
        "result = ran.returncode == 0 and int(ran.stdout) == os.getuid()"
    ),
}


@pytest.mark.parametrize("isolation", [Isolation.FORK, Isolation.WORKER])
@pytest.mark.parametrize("tier", TIERS)
async def test_eight_children_share_one_limit_of_memory(tier: Tier, isolation: Isolation) -> None:
    resources = Resources(memory_mb=256)
    with host_world() as facts, orders([], facts) as folder:
        async with hostile_executor(folder, tier, isolation, resources) as executor:
            assert await call_hostile(executor, EIGHT_CHILDREN, facts) == {
                "bomb": "stopped: memory"
            }
            served = await call_hostile(executor, FIND_FILES, facts)
            assert served == {"found": "done: 0"}, "the next call is served"


@pytest.mark.parametrize("isolation", [Isolation.FORK, Isolation.WORKER])
@pytest.mark.parametrize("tier", TIERS)
async def test_a_flood_of_files_is_gone_before_the_next_call(
    tier: Tier, isolation: Isolation
) -> None:
    with host_world() as facts, orders([], facts) as folder:
        async with hostile_executor(folder, tier, isolation) as executor:
            for _ in range(2):
                assert await call_hostile(executor, MANY_FILES, facts) == {"flood": "done: True"}
                assert await call_hostile(executor, FIND_FILES, facts) == {"found": "done: 0"}


@pytest.mark.parametrize("tier", TIERS)
async def test_a_setuid_program_gives_nothing(tier: Tier) -> None:
    with host_world() as facts, orders([], facts) as folder:
        program = folder / "id"
        shutil.copy("/usr/bin/id", program)
        program.chmod(0o4755)
        if os.geteuid() == 0:
            _assert_it_makes_others_root(program)
        async with hostile_executor(folder, tier, Isolation.FORK) as executor:
            answers = await call_hostile(executor, RUN_SETUID, facts)
    assert answers == {"user": "done: True"}


def _assert_it_makes_others_root(program: Path) -> None:
    ran = subprocess.run([program, "-u"], user=SOMEBODY, group=SOMEBODY, capture_output=True)
    assert ran.stdout == b"0\n"
