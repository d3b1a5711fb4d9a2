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
from swarmharness.skills.errors import ResourceExceeded
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
    """Calls by a stranger, one after another: each flood alone, the others together."""
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
        calls = [[attack] for attack in attacks if attack.is_alone]
        calls.append([attack for attack in attacks if not attack.is_alone])
        answers: dict[str, str] = {}
        for rows in calls:
            answers |= await _call(executor, rows, facts)
        return answers
    finally:
        await executor.close(drain_ms=0)


async def _call(
    executor: SandboxExecutor, rows: list[Attack], facts: dict[str, Any]
) -> dict[str, str]:
    codes = [attack.code for attack in rows]
    content = json.dumps({"codes": codes, "facts": json.dumps(facts)}).encode()
    call = SkillCall(
        call_id="attack", skill="hostile", input=JsonBytes(content), deadline_ms=60_000
    )
    names = [attack.name for attack in rows]
    try:
        events = [event async for event in executor.run(call)]
    except ResourceExceeded as error:
        return dict.fromkeys(names, f"stopped: {error.data['kind']}")
    except SwarmError as error:
        return dict.fromkeys(names, f"{error.code}: {error.sentence} {error.data}")
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.output is not None
    return dict(zip(names, json.loads(last.output)["answers"], strict=True))
