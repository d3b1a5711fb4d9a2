"""Runs attacks as calls of a hostile skill, through the executor that serves every skill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from skills.attacks.attack_table import Attack
from skills.attacks.firing_range import orders
from skills.attacks.host_world import host_world
from swarmharness.kernel.errors import SwarmError
from swarmharness.skills.call import Finished, JsonBytes, SkillCall
from swarmharness.skills.egress_log import EgressLog
from swarmharness.skills.sandbox.executor import SandboxExecutor
from swarmharness.skills.sandbox.launch import launch
from swarmharness.skills.sandbox.runnable import Isolation, RunnableSkill
from swarmharness.skills.sandbox.tiers import Tier


class _NoClock:
    def now_us(self) -> int:
        return 0

    def wall_ms(self) -> int:
        return 0


def fire_calls(attacks: Iterable[Attack], *, tier: Tier, mode: str) -> dict[str, str]:
    """One call for each attack, one after another, by a stranger."""
    with host_world() as facts, orders([], facts) as folder:
        answers = asyncio.run(_fire(list(attacks), facts, folder, tier, Isolation(mode)))
        assert Path(facts["victim_file"]).read_text() == "intact"
    return answers


async def _fire(
    attacks: list[Attack], facts: dict[str, Any], folder: Path, tier: Tier, isolation: Isolation
) -> dict[str, str]:
    executor = SandboxExecutor(partial(launch, tier=tier), egress_log=EgressLog(_NoClock()))
    skill = RunnableSkill(
        name="hostile",
        folder=folder,
        mount="/app/skills/hostile",
        digest=bytes(32),
        isolation=isolation,
    )
    try:
        await executor.add(skill)
        return {attack.name: await _call(executor, attack.code, facts) for attack in attacks}
    finally:
        await executor.close(drain_ms=0)


async def _call(executor: SandboxExecutor, code: str, facts: dict[str, Any]) -> str:
    content = json.dumps({"code": code, "facts": json.dumps(facts)}).encode()
    call = SkillCall(
        call_id="attack", skill="hostile", input=JsonBytes(content), deadline_ms=60_000
    )
    try:
        events = [event async for event in executor.run(call)]
    except SwarmError as error:
        return f"{error.code}: {error.sentence} {error.data}"
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.output is not None
    answer: str = json.loads(last.output)["answer"]
    return answer
