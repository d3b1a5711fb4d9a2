"""Places, spares, the line and back-off, with guests played by the test."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skills.engine_support import call_of, events_of, runnable
from skills.fake_guest import FakeCall, FakeGuest, FakeLauncher, engine
from swarmharness.skills.call import CallerClass, CallEvent, Finished
from swarmharness.skills.errors import Overloaded, SandboxStuck, SkillBroken
from swarmharness.skills.sandbox import pool as pool_module
from swarmharness.skills.sandbox.executor import SandboxExecutor
from swarmharness.skills.sandbox.runnable import Isolation, RunnableSkill


def skill(**overrides: object) -> RunnableSkill:
    return runnable(Path("/nowhere/quiet"), **overrides)


def start_call(
    executor: SandboxExecutor, caller: CallerClass = CallerClass.OWNER
) -> asyncio.Task[list[CallEvent]]:
    return asyncio.ensure_future(events_of(executor, call_of("quiet", caller=caller)))


async def finish(call: FakeCall, task: asyncio.Task[list[CallEvent]]) -> Finished:
    call.answer()
    call.done()
    finished = (await task)[-1]
    assert isinstance(finished, Finished)
    return finished


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_sandbox_is_used_again_and_only_the_first_call_is_cold() -> None:
    async with engine(skill()) as (executor, launcher):
        task = start_call(executor)
        guest = await launcher.next_ready()
        assert (await finish(await guest.take_call(), task)).meters.cold
        task = start_call(executor)
        assert not (await finish(await guest.take_call(), task)).meters.cold


async def test_a_pool_used_twice_keeps_one_spare_and_no_more() -> None:
    async with engine(skill()) as (executor, launcher):
        task = start_call(executor)
        guest = await launcher.next_ready()
        await finish(await guest.take_call(), task)
        await turns()
        assert len(launcher.all) == 1
        for _ in range(3):
            task = start_call(executor)
            await finish(await guest.take_call(), task)
            await turns()
        assert len(launcher.all) == 2


async def test_no_more_calls_run_than_there_are_places() -> None:
    async with engine(skill(concurrency=2, queue=4)) as (executor, launcher):
        tasks = [start_call(executor) for _ in range(3)]
        guests = [await launcher.next_ready(), await launcher.next_ready()]
        calls = [await guest.take_call() for guest in guests]
        spare = await launcher.next_ready()
        await turns()
        hears = asyncio.ensure_future(spare.hear())
        await turns()
        assert not hears.done(), "the spare is no third place"
        hears.cancel()
        await asyncio.gather(hears, return_exceptions=True)
        await finish(calls[0], tasks[0])
        await turns()
        last = [task for task in tasks if not task.done()]
        assert len(last) == 2
        await finish(calls[1], tasks[1])
        takers = [asyncio.ensure_future(guest.take_call()) for guest in (*guests, spare)]
        done, waiting = await asyncio.wait(takers, return_when=asyncio.FIRST_COMPLETED)
        for taker in waiting:
            taker.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await finish(done.pop().result(), tasks[2])


async def test_a_worker_serves_several_calls_in_one_sandbox() -> None:
    async with engine(skill(isolation=Isolation.WORKER, concurrency=3)) as (executor, launcher):
        tasks = [start_call(executor) for _ in range(3)]
        guest = await launcher.next_ready()
        calls = [await guest.take_call() for _ in range(3)]
        assert len({call.name for call in calls}) == 3
        for call, task in zip(reversed(calls), reversed(tasks), strict=True):
            await finish(call, task)
        assert len(launcher.all) == 1


async def test_a_worker_is_replaced_after_its_number_of_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "WORKER_CALLS", 2)
    async with engine(skill(isolation=Isolation.WORKER)) as (executor, launcher):
        old = await _serve_next(executor, launcher, None)
        await _serve_next(executor, launcher, old)
        assert old.is_killed
        assert await _serve_next(executor, launcher, None) is not old


async def _serve_next(
    executor: SandboxExecutor, launcher: FakeLauncher, guest: FakeGuest | None
) -> FakeGuest:
    task = start_call(executor)
    if guest is None:
        guest = await launcher.next_ready()
    await finish(await guest.take_call(), task)
    await turns()
    return guest


async def test_a_oneshot_sandbox_serves_once() -> None:
    async with engine(skill(isolation=Isolation.ONESHOT)) as (executor, launcher):
        first = await _serve_next(executor, launcher, None)
        assert first.is_killed
        second = await _serve_next(executor, launcher, None)
        assert second.is_killed
        await launcher.next_ready()  # the spare, for the third


async def test_classes_of_callers_never_share_a_sandbox() -> None:
    async with engine(skill()) as (executor, launcher):
        for caller in CallerClass:
            task = start_call(executor, caller)
            guest = await launcher.next_ready()
            await finish(await guest.take_call(), task)
        assert len(launcher.all) == len(CallerClass)


async def test_the_line_has_an_end() -> None:
    async with engine(skill(queue=2)) as (executor, launcher):
        tasks = [start_call(executor) for _ in range(3)]
        await turns()
        with pytest.raises(Overloaded) as caught:
            await events_of(executor, call_of("quiet"))
        assert caught.value.data == {"running": 0, "waiting": 3}
        guest = await launcher.next_ready()
        for task in tasks[:1]:
            await finish(await guest.take_call(), task)
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks[1:], return_exceptions=True)


async def test_who_leaves_the_line_frees_their_place_in_it() -> None:
    async with engine(skill(queue=1)) as (executor, launcher):
        tasks = [start_call(executor) for _ in range(2)]
        await turns()
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)
        third = start_call(executor)
        guest = await launcher.next_ready()
        await finish(await guest.take_call(), tasks[1])
        spare_or_same = asyncio.ensure_future(guest.take_call())
        await finish(await spare_or_same, third)


async def test_a_failed_import_is_told_to_all_and_not_tried_again_at_once() -> None:
    async with engine(skill(queue=3)) as (executor, launcher):
        tasks = [start_call(executor) for _ in range(3)]
        guest = await launcher.guests.get()
        guest.say(t="booted")
        guest.say(t="failed", reason="no handle")
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [SkillBroken] * 3
        assert len({id(result) for result in results}) == 3
        with pytest.raises(SkillBroken, match="no handle"):
            await events_of(executor, call_of("quiet"))
        assert len(launcher.all) == 1


async def test_the_back_off_grows_and_success_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "BACKOFF_SECONDS", (0.0,))
    async with engine(skill()) as (executor, launcher):
        for _ in range(3):
            task = start_call(executor)
            guest = await launcher.guests.get()
            guest.say(t="booted")
            guest.say(t="failed", reason="not yet")
            with pytest.raises(SkillBroken):
                await task
        await _serve_next(executor, launcher, None)


async def test_idle_sandboxes_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "IDLE_SECONDS", 0.0)
    async with engine(skill()) as (executor, launcher):
        guest = await _serve_next(executor, launcher, None)
        while not guest.is_killed:
            await asyncio.sleep(0)
        again = await _serve_next(executor, launcher, None)
        assert again is not guest


async def test_a_sandbox_that_cannot_be_killed_shuts_the_skill_off() -> None:
    async with engine(skill()) as (executor, launcher):
        task = start_call(executor)
        guest = await launcher.next_ready()
        kill = guest.kill

        async def refuse() -> int:
            await kill()
            raise SandboxStuck("Sandbox process 1 is still there after 2 s.")

        guest.kill = refuse  # type: ignore[method-assign]
        call = await guest.take_call()
        call.answer()
        call.done(clean=False)
        await task
        await turns()
        with pytest.raises(SkillBroken, match="shut off"):
            await events_of(executor, call_of("quiet"))
