"""What one call leaves behind must not reach the next one, nor another class of callers."""

from __future__ import annotations

import pytest

from skills.attacks.engine_range import call_hostile, hostile_executor
from skills.attacks.firing_range import orders
from skills.attacks.host_world import host_world
from swarmharness.skills.call import CallerClass
from swarmharness.skills.sandbox.runnable import Isolation
from swarmharness.skills.sandbox.tiers import Tier

LEAVE = {
    "name": "import builtins; builtins.left = 1; result = 'left'",
    "file": "open(call_dir + '/left', 'w').close(); result = 'left'",
    "orphan": (
        "import time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0: time.sleep(600)\n"
        "    os._exit(0)\n"
        "os.wait(); result = 'left'"
    ),
}
FIND_NAME = {"name": "import builtins; result = hasattr(builtins, 'left')"}
FIND = {
    **FIND_NAME,
    "file": "result = any('left' in names for _, _, names in os.walk(call_dir + '/..'))",
    "others": "result = sum(name.isdigit() for name in os.listdir('/proc'))",
}


async def test_a_forked_call_finds_nothing_of_the_one_before() -> None:
    with host_world() as facts, orders([], facts) as folder:
        async with hostile_executor(folder, Tier.FULL, Isolation.FORK) as executor:
            left = await call_hostile(executor, LEAVE, facts)
            assert set(left.values()) == {"done: 'left'"}
            assert await call_hostile(executor, FIND, facts) == {
                "name": "done: False",
                "file": "done: False",
                "others": "done: 3",  # init, zygote, this call
            }


@pytest.mark.parametrize("tier", [Tier.FULL, Tier.LANDLOCK_ONLY])
async def test_a_worker_keeps_its_state_from_other_classes_of_callers(tier: Tier) -> None:
    name = {"name": LEAVE["name"]}
    with host_world() as facts, orders([], facts) as folder:
        async with hostile_executor(folder, tier, Isolation.WORKER) as executor:
            await call_hostile(executor, name, facts, CallerClass.OWNER)
            for caller in (CallerClass.PUBLIC, CallerClass.SPACE):
                found = await call_hostile(executor, FIND_NAME, facts, caller)
                assert found == {"name": "done: False"}
            found = await call_hostile(executor, FIND_NAME, facts, CallerClass.OWNER)
            assert found == {"name": "done: True"}, "the state is there, for its own class"
