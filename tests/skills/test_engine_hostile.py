"""Guests that break the rules: each costs one typed error, and the sandbox its life."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skills.engine_support import call_of, events_of, executor_of, runnable, write_skill
from skills.fake_guest import FakeCall, FakeGuest, engine
from swarmharness.skills.call import CallEvent, Finished, Started
from swarmharness.skills.errors import (
    ResourceExceeded,
    SandboxLost,
    SandboxProtocolBroken,
    SandboxUnavailable,
    SkillBroken,
)
from swarmharness.skills.guest.frames import encode
from swarmharness.skills.sandbox import executor as executor_module
from swarmharness.skills.sandbox import watchdog as watchdog_module
from swarmharness.skills.sandbox.runnable import Isolation, Resources, RunnableSkill
from swarmharness.skills.sandbox.watchdog import Breach, Watchdog


def skill(**overrides: object) -> RunnableSkill:
    return runnable(Path("/nowhere/evil"), **overrides)


def start_call(executor: object) -> asyncio.Task[list[CallEvent]]:
    return asyncio.ensure_future(events_of(executor, call_of("evil")))  # type: ignore[arg-type]


BREACHES: dict[str, Callable[[FakeCall], None]] = {
    "another call's id": lambda c: c.say(t="started", id="c0"),
    "a result out of order": lambda c: c.say(t="result", d=b"1"),
    "an oversized frame": lambda c: c.socket.sendall(struct.pack(">I", 1 << 30)),
    "a depth bomb": lambda c: c.socket.sendall(struct.pack(">I", 9000) + b"\x91" * 9000),
    "an unknown frame": lambda c: c.say(t="surprise"),
    "no json": lambda c: c.answer(b'1,"ok":0'),
    "a chunk that was not due": lambda c: (
        c.say(t="started", id=c.name),
        c.say(t="chunk", n=5, cut=0, d=b""),
    )[0],
}


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES)
@pytest.mark.parametrize("isolation", [Isolation.FORK, Isolation.WORKER])
async def test_a_breach_kills_the_sandbox_and_the_next_call_gets_another(
    breach: Callable[[FakeCall], None], isolation: Isolation
) -> None:
    async with engine(skill(isolation=isolation)) as (executor, launcher):
        task = start_call(executor)
        guest = await launcher.next_ready()
        call = await guest.take_call()
        breach(call)
        with pytest.raises(SandboxProtocolBroken):
            await task
        call.socket.close()
        task = start_call(executor)
        honest = await launcher.next_ready()
        call = await honest.take_call()
        call.answer()
        call.done()
        assert isinstance((await task)[-1], Finished)
        assert guest.is_killed
        assert not honest.is_killed


CONTROL_BREACHES: dict[str, Callable[[FakeGuest], None]] = {
    "the end of a call that is not there": lambda g: g.say(
        t="done", id="c0", signal=0, status=0, clean=True
    ),
    "ready twice": lambda g: g.say(t="ready"),
    "a frame of a call": lambda g: g.say(t="result", d=b"1"),
    "an oversized frame": lambda g: g.control.sendall(struct.pack(">I", 1 << 30)),
}


@pytest.mark.parametrize("breach", CONTROL_BREACHES.values(), ids=CONTROL_BREACHES)
async def test_a_breach_on_the_control_socket_ends_the_call(
    breach: Callable[[FakeGuest], None],
) -> None:
    async with engine(skill()) as (executor, launcher):
        task = start_call(executor)
        guest = await launcher.next_ready()
        call = await guest.take_call()
        breach(guest)
        call.socket.close()
        with pytest.raises(SandboxProtocolBroken):
            await task


async def test_a_smuggled_descriptor_is_dropped() -> None:
    async with engine(skill()) as (executor, launcher):
        task = start_call(executor)
        guest = await launcher.next_ready()
        call = await guest.take_call()
        read, write = os.pipe()
        for channel in (call.socket, guest.control):
            frame = encode({"t": "started", "id": call.name})
            if channel is guest.control:
                frame = b""
            socket.send_fds(channel, [frame or b"\0"], [write])
        os.close(write)
        call.say(t="result", d=b"{}")
        guest.control.sendall(
            encode({"t": "done", "id": call.name, "signal": 0, "status": 0, "clean": True})[1:]
        )
        call.socket.close()
        assert isinstance((await task)[-1], Finished)
        # No other copy of the writing end is open: the pipe is at its end.
        assert os.read(read, 1) == b""
        os.close(read)


async def test_a_guest_that_never_reports_the_end_is_killed_and_the_answer_kept() -> None:
    async with engine(skill()) as (executor, launcher):
        task = start_call(executor)
        guest = await launcher.next_ready()
        call = await guest.take_call()
        call.answer(b'{"text":"kept"}')
        finished = (await task)[-1]
        assert isinstance(finished, Finished)
        assert finished.output == b'{"text":"kept"}'
        assert guest.is_killed
        call.socket.close()


async def test_an_unclean_end_costs_the_sandbox_but_not_the_answer() -> None:
    async with engine(skill()) as (executor, launcher):
        task = start_call(executor)
        guest = await launcher.next_ready()
        call = await guest.take_call()
        call.answer()
        call.done(clean=False)
        assert isinstance((await task)[-1], Finished)
        task = start_call(executor)
        call = await (await launcher.next_ready()).take_call()
        call.answer()
        call.done()
        await task
        assert guest.is_killed


async def test_a_cancelled_call_is_closed_then_killed_then_its_sandbox() -> None:
    async with engine(skill()) as (executor, launcher):
        events = executor.run(call_of("evil"))
        first = asyncio.ensure_future(anext(events))
        guest = await launcher.next_ready()
        call = await guest.take_call()
        call.say(t="started", id=call.name)
        assert await first == Started()
        await events.aclose()
        assert call.socket.recv(65536), "the input"
        assert call.socket.recv(1) == b"", "the end of the socket is the cancellation"
        assert await guest.hear() == {"t": "kill", "id": call.name}
        assert not guest.is_killed
        while not guest.is_killed:
            await asyncio.sleep(0)
        call.socket.close()


async def test_only_the_owners_log_hears_the_last_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with engine(skill()) as (executor, launcher):
        task = start_call(executor)
        guest = await launcher.next_ready()
        guest.words = "an earlier caller's secret\n\x1b[31mFatal: out of luck\n"
        call = await guest.take_call()
        call.socket.close()
        guest.control.close()
        with pytest.raises(SandboxLost) as caught:
            await task
        assert "secret" not in caught.value.sentence
        assert "luck" not in caught.value.sentence
    (record,) = [record for record in caplog.records if "luck" in record.getMessage()]
    assert record.getMessage().isprintable()


async def test_a_failed_start_gives_its_last_words_to_the_log_or_to_who_describes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with engine(skill()) as (executor, launcher):
        sentences: list[str] = []
        for kind in ("call", "describe"):
            start: asyncio.Future[Any] = asyncio.ensure_future(
                start_call(executor) if kind == "call" else executor.describe(skill())
            )
            guest = await launcher.guests.get()
            guest.words = f"Fatal: \x1b[31mout of luck in {kind}\n"
            guest.say(t="booted")
            guest.control.shutdown(socket.SHUT_WR)
            with pytest.raises(SkillBroken) as caught:
                await start
            sentences.append(caught.value.sentence)
    assert "luck" not in sentences[0]
    assert "\\x1b[31mout of luck in call" in caplog.text
    assert "\\x1b[31mout of luck in describe" in sentences[1]


async def test_a_guest_that_fails_to_boot_or_to_import() -> None:
    for frames, kind in (
        ([], SandboxUnavailable),
        ([{"t": "ready"}], SandboxUnavailable),
        ([{"t": "booted"}], SkillBroken),
        ([{"t": "booted"}, {"t": "failed", "reason": "no handle"}], SkillBroken),
        ([{"t": "booted"}, {"t": "booted"}], SandboxProtocolBroken),
    ):
        async with engine(skill()) as (executor, launcher):
            task = start_call(executor)
            guest = await launcher.guests.get()
            guest.words = "no such thing"
            for frame in frames:
                guest.say(**frame)
            guest.control.shutdown(socket.SHUT_WR)
            with pytest.raises(kind):
                await task


async def test_closing_while_a_sandbox_starts_leaves_nothing() -> None:
    async with engine(skill()) as (executor, launcher):
        task = start_call(executor)
        guest = await launcher.guests.get()
        await executor.close(drain_ms=0)
        assert guest.is_killed
        with pytest.raises(Exception, match="stopping"):
            await task


SPOKEN_IN_THE_WRONG_MODE = [
    {"t": "ready"},
    {"t": "threads", "count": 2},
    {"t": "done", "id": "c0", "signal": 0, "status": 0, "clean": True},
]


@pytest.mark.parametrize("frame", SPOKEN_IN_THE_WRONG_MODE, ids=lambda frame: frame["t"])
async def test_a_guest_that_only_describes_may_say_nothing_else(frame: dict[str, object]) -> None:
    async with engine() as (executor, launcher):
        task = asyncio.ensure_future(executor.describe(skill()))
        guest = await launcher.guests.get()
        guest.say(t="booted")
        guest.say(**frame)  # and then it stays silent, with its socket open
        with pytest.raises(SandboxProtocolBroken):
            await task
        assert guest.is_killed


async def test_a_description_has_a_time_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "DESCRIBE_SECONDS", 0.02)
    async with engine() as (executor, launcher):
        task = asyncio.ensure_future(executor.describe(skill()))
        guest = await launcher.guests.get()
        guest.say(t="booted")
        with pytest.raises(SkillBroken, match="took longer"):
            await task
        assert guest.is_killed


@pytest.mark.parametrize(
    ("isolation", "frame"),
    [
        (Isolation.FORK, {"t": "described", "d": b"{}"}),
        (Isolation.WORKER, {"t": "described", "d": b"{}"}),
        (Isolation.WORKER, {"t": "threads", "count": 2}),
    ],
)
async def test_a_frame_of_another_mode_is_a_failed_start(
    isolation: Isolation, frame: dict[str, object]
) -> None:
    async with engine(skill(isolation=isolation)) as (executor, launcher):
        task = start_call(executor)
        guest = await launcher.guests.get()
        guest.say(t="booted")
        guest.say(**frame)
        with pytest.raises(SandboxProtocolBroken):
            await task
        assert guest.is_killed
        with pytest.raises(SandboxProtocolBroken):  # the pool backs off: no second guest
            await events_of(executor, call_of("evil"))
        assert len(launcher.all) == 1


HOGGING_IMPORT = """
import mmap, time
held = mmap.mmap(-1, 160 << 20)
held.write(bytes(160 << 20))
time.sleep(600)
def handle(input): pass
"""


async def test_memory_is_limited_while_the_skill_is_imported(tmp_path: Path) -> None:
    hog = runnable(
        write_skill(tmp_path / "hog", HOGGING_IMPORT), resources=Resources(memory_mb=128)
    )
    async with executor_of(hog) as executor:
        with pytest.raises(ResourceExceeded, match="MiB of memory"):
            await executor.describe(hog)
        with pytest.raises(ResourceExceeded, match="MiB of memory"):
            await events_of(executor, call_of("hog"))


LEAVING_CALL = """
import os, time
def handle(input):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()
    return Output(text="ok")
"""


async def test_a_worker_that_keeps_a_calls_processes_is_ended_when_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asyncio.Event()

    def hear(record: logging.LogRecord) -> bool:
        if "left over from a call" in record.getMessage():
            told.set()
        return True

    logger = logging.getLogger("swarmharness.skills.sandbox.sandbox")
    monkeypatch.setattr(logger, "filters", [hear])
    monkeypatch.setattr(watchdog_module, "IDLE_WATCH_SECONDS", 0.01)
    leaver = runnable(write_skill(tmp_path / "leaver", LEAVING_CALL), isolation=Isolation.WORKER)
    async with executor_of(leaver) as executor:
        assert isinstance((await events_of(executor, call_of("leaver")))[-1], Finished)
        await told.wait()
        # The next call gets a new worker.
        assert isinstance((await events_of(executor, call_of("leaver")))[-1], Finished)


async def test_an_idle_sandbox_that_is_ended_is_not_replaced_unasked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def judge(_watchdog: Watchdog, _usage: object, _processes: int) -> Breach:
        return Breach("leftovers", 3)

    async with engine(skill(concurrency=1)) as (executor, launcher):
        for _ in range(2):
            task = start_call(executor)
            if not launcher.all:
                guest = await launcher.next_ready()
            call = await guest.take_call()
            call.answer()
            call.done()
            await task
        spare = await launcher.next_ready()
        monkeypatch.setattr(Watchdog, "_judge_idle", judge)
        await spare.killed.wait()
        await guest.killed.wait()
        assert len(launcher.all) == 2
