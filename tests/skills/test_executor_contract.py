"""What every executor owes its callers, with the sandbox that this machine really has."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from skills.engine_support import StoppedClock, call_of, events_of, runnable, write_skill
from swarmharness.skills.call import Chunk, Finished, Started
from swarmharness.skills.egress_log import EgressLog
from swarmharness.skills.errors import (
    HandlerFailed,
    InvalidInput,
    ResourceExceeded,
    SandboxUnavailable,
    SkillTimeout,
    UnknownSkill,
)
from swarmharness.skills.sandbox.executor import SandboxExecutor
from swarmharness.skills.sandbox.launch import find_bwrap, launch
from swarmharness.skills.sandbox.runnable import Isolation, Resources, RunnableSkill
from swarmharness.skills.sandbox.tiers import Tier

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap is not installed"),
]

HANDLER = """
import asyncio, os, time
async def handle(input):
    if input.text == "fail":
        raise ValueError("no")
    if input.text == "hang":
        await asyncio.sleep(3600)
    if input.text == "eat":
        kept = []
        while True:
            kept.append(bytearray(8 << 20))
    if input.text == "fork":
        children = 0
        try:
            while True:
                if os.fork() == 0:
                    os.setsid()
                    time.sleep(3600)
                children += 1
        except OSError:
            yield str(children)
        return
    for i in range(input.n):
        yield i
"""


@contextlib.asynccontextmanager
async def confined(*skills: RunnableSkill) -> AsyncIterator[SandboxExecutor]:
    executor = SandboxExecutor(
        partial(launch, tier=Tier.FULL), egress_log=EgressLog(StoppedClock())
    )
    try:
        for skill in skills:
            await executor.add(skill)
        yield executor
    except SandboxUnavailable as reason:
        pytest.skip(f"no full sandbox here: {reason.sentence}")
    finally:
        await executor.close(drain_ms=0)


def contract_skill(folder: Path, isolation: Isolation) -> RunnableSkill:
    return runnable(
        write_skill(folder / "skill", HANDLER),
        isolation=isolation,
        timeout_ms=5000,
        resources=Resources(memory_mb=256),
    )


@pytest.mark.parametrize("isolation", list(Isolation))
async def test_the_contract(tmp_path: Path, isolation: Isolation) -> None:
    skill = contract_skill(tmp_path, isolation)
    async with confined(skill) as executor:
        # Started first, Finished last, chunks numbered between.
        events = await events_of(executor, call_of("skill", b'{"n":3}'))
        assert events[0] == Started()
        assert [event.n for event in events[1:-1] if isinstance(event, Chunk)] == [0, 1, 2]
        assert isinstance(events[-1], Finished)
        assert events[-1].meters.chunks == 3
        # One typed error each, and the next call is served.
        for content, kind in (
            (b"{", InvalidInput),
            (b'{"text":"fail"}', HandlerFailed),
            (b'{"text":"eat"}', ResourceExceeded),
        ):
            with pytest.raises(kind):
                await events_of(executor, call_of("skill", content))
        with pytest.raises(SkillTimeout):
            await events_of(executor, call_of("skill", b'{"text":"hang"}', deadline_ms=2000))
        with pytest.raises(UnknownSkill):
            await events_of(executor, call_of("other"))
        # Closing the iterator in the middle leaves nothing behind.
        async with contextlib.aclosing(executor.run(call_of("skill", b'{"text":"hang"}'))) as run:
            assert await anext(run) == Started()
        assert len(await events_of(executor, call_of("skill", b'{"n":1}'))) == 3


async def test_a_fork_bomb_is_bounded_and_gone_before_the_next_call(tmp_path: Path) -> None:
    async with confined(contract_skill(tmp_path, Isolation.FORK)) as executor:
        for _ in range(2):
            events = await events_of(executor, call_of("skill", b'{"text":"fork"}'))
            children = [int(event.text) for event in events if isinstance(event, Chunk)]
            assert len(children) == 1
            assert 0 < children[0] <= 64


async def test_several_skills_at_once_and_one_of_them_hangs(tmp_path: Path) -> None:
    skills = [
        runnable(write_skill(tmp_path / name, HANDLER), concurrency=2, timeout_ms=5000)
        for name in ("one", "two")
    ]
    async with confined(*skills) as executor:
        hanging = asyncio.ensure_future(events_of(executor, call_of("one", b'{"text":"hang"}')))
        results = await asyncio.gather(
            *(events_of(executor, call_of(name, b'{"n":2}')) for name in ("one", "two") * 3)
        )
        assert [len(events) for events in results] == [4] * 6
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)


async def test_the_network_is_reached_through_the_proxy_only(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "net",
        """
        import os, urllib.request, urllib.error
        def handle(input):
            try:
                urllib.request.urlopen("http://unlisted.invalid/", timeout=5)
            except urllib.error.HTTPError as error:
                return Output(text=f"{error.code} {os.environ['http_proxy']}")
        """,
    )
    async with confined(runnable(folder, network_allow=("listed.invalid:443",))) as executor:
        (*_, finished) = await events_of(executor, call_of("net"))
        assert isinstance(finished, Finished)
        assert finished.output is not None
        assert json.loads(finished.output) == {"text": "403 http://127.0.0.1:3128"}
