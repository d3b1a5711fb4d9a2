"""The two clocks of a session, with a guest played by the test."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from skills.engine_support import call_of, runnable
from skills.fake_guest import engine
from swarmharness.skills.call import Chunk, Finished, Started
from swarmharness.skills.errors import CallerStalled, SkillTimeout
from swarmharness.skills.guest.frames import encode
from swarmharness.skills.sandbox import session as session_module

SKILL = runnable(Path("/nowhere/quiet"))


async def test_a_reader_that_stops_reading_is_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "STALL_SECONDS", 0.02)
    async with engine(SKILL) as (executor, launcher):
        events = executor.run(call_of("quiet"))
        first = asyncio.ensure_future(anext(events))
        guest = await launcher.next_ready()
        call = await guest.take_call()
        call.say(t="started", id=call.name)
        assert await first == Started()
        while not guest.is_killed:  # nobody reads: the call ends without the reader's help
            await asyncio.sleep(0.01)
        with pytest.raises(CallerStalled):
            await anext(events)
        call.socket.close()


async def test_the_readers_time_is_not_the_handlers() -> None:
    async with engine(SKILL) as (executor, launcher):
        events = executor.run(call_of("quiet", deadline_ms=300))
        first = asyncio.ensure_future(anext(events))
        guest = await launcher.next_ready()
        call = await guest.take_call()
        call.say(t="started", id=call.name)
        assert await first == Started()
        await asyncio.sleep(0.4)  # longer than the wall limit, but the reader's own
        call.say(t="end", n=0)
        call.done()
        assert isinstance(await anext(events), Finished)
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_a_handler_that_says_nothing_runs_into_the_wall() -> None:
    async with engine(SKILL) as (executor, launcher):
        events = executor.run(call_of("quiet", deadline_ms=100))
        first = asyncio.ensure_future(anext(events))
        guest = await launcher.next_ready()
        call = await guest.take_call()
        call.say(t="started", id=call.name)
        assert await first == Started()
        with pytest.raises(SkillTimeout) as caught:
            await anext(events)
        assert caught.value.data == {"limit_ms": 100}
        call.done()


async def test_the_socket_is_the_window() -> None:
    async with engine(SKILL) as (executor, launcher):
        events = executor.run(call_of("quiet"))
        first = asyncio.ensure_future(anext(events))
        guest = await launcher.next_ready()
        call = await guest.take_call()
        call.say(t="started", id=call.name)
        assert await first == Started()
        frame = encode({"t": "chunk", "n": 0, "cut": 0, "d": bytes(1000)})
        sent = 0
        with suppress(BlockingIOError):  # without a reader the writer is stopped soon
            while sent < 1_000_000:
                sent += call.socket.send(frame)
        assert sent < 1_000_000
        chunk = await anext(events)
        assert isinstance(chunk, Chunk)
        await events.aclose()
        call.done()


class NeverPausing:
    """The host's end of a call whose guest has always written more already."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self._n = -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def recv(self, size: int) -> bytes:
        data = encode({"t": "chunk", "n": self._n, "cut": 0, "d": b""})
        if self._n < 0:
            data = self._real.recv(size)
        self._n += 1
        return data


async def test_a_guest_that_never_pauses_neither_keeps_the_loop_nor_outruns_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with engine(SKILL) as (executor, launcher):
        events = executor.run(call_of("quiet", deadline_ms=200))
        first = asyncio.ensure_future(anext(events))
        guest = await launcher.next_ready()
        pair = socket.socketpair

        def tampered() -> tuple[Any, socket.socket]:
            ours, theirs = pair()
            return NeverPausing(ours), theirs

        monkeypatch.setattr(socket, "socketpair", tampered)
        call = await guest.take_call()
        monkeypatch.setattr(socket, "socketpair", pair)
        call.say(t="started", id=call.name)
        await first
        chunks: list[object] = []

        async def read() -> None:
            chunks.extend([event async for event in events])

        with pytest.raises(SkillTimeout):
            await read()
        call.done()
