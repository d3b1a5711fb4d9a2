"""Runs attacks as calls of a hostile skill, through the executor that serves every skill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from skills.attacks.attack_table import Attack
from skills.attacks.firing_range import orders
from skills.attacks.host_world import host_world
from swarmharness.kernel.errors import SwarmError
from swarmharness.skills.call import CallerClass, Finished, JsonBytes, SkillCall
from swarmharness.skills.egress_log import EgressLog
from swarmharness.skills.errors import ResourceExceeded
from swarmharness.skills.sandbox.executor import SandboxExecutor
from swarmharness.skills.sandbox.launch import launch
from swarmharness.skills.sandbox.runnable import Isolation, Resources, RunnableSkill
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


@asynccontextmanager
async def hostile_executor(
    folder: Path,
    tier: Tier,
    isolation: Isolation,
    resources: Resources = Resources(),  # noqa: B008  frozen
) -> AsyncIterator[SandboxExecutor]:
    """Serves one skill, which does whatever its caller says."""
    executor = SandboxExecutor(partial(launch, tier=tier), egress_log=EgressLog(_NoClock()))
    skill = RunnableSkill(
        name="hostile",
        folder=folder,
        mount="/app/skills/hostile",
        digest=bytes(32),
        isolation=isolation,
        resources=resources,
    )
    try:
        await executor.add(skill)
        yield executor
    finally:
        await executor.close(drain_ms=0)


async def _fire(
    attacks: list[Attack], facts: dict[str, Any], folder: Path, tier: Tier, isolation: Isolation
) -> dict[str, str]:
    calls = [[attack] for attack in attacks if attack.is_alone]
    calls.append([attack for attack in attacks if not attack.is_alone])
    answers: dict[str, str] = {}
    async with hostile_executor(folder, tier, isolation) as executor:
        for rows in calls:
            codes = {attack.name: attack.code for attack in rows}
            answers |= await call_hostile(executor, codes, facts)
    return answers


async def call_hostile(
    executor: SandboxExecutor,
    codes: dict[str, str],
    facts: dict[str, Any],
    caller: CallerClass = CallerClass.PUBLIC,
) -> dict[str, str]:
    """One call that tries each code; the answers by name."""
    content = json.dumps({"codes": list(codes.values()), "facts": json.dumps(facts)}).encode()
    call = SkillCall(
        call_id="attack",
        skill="hostile",
        input=JsonBytes(content),
        deadline_ms=60_000,
        caller=caller,
    )
    try:
        events = [event async for event in executor.run(call)]
    except ResourceExceeded as error:
        return dict.fromkeys(codes, f"stopped: {error.data['kind']}")
    except SwarmError as error:
        return dict.fromkeys(codes, f"{error.code}: {error.sentence} {error.data}")
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.output is not None
    return dict(zip(codes, json.loads(last.output)["answers"], strict=True))
