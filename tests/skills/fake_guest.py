"""A guest played by the test, so that it can say anything at any moment."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from skills.engine_support import StoppedClock
from swarmharness.skills.egress_log import EgressLog
from swarmharness.skills.guest.frames import FrameBuffer, encode
from swarmharness.skills.sandbox.confinement import Confinement
from swarmharness.skills.sandbox.executor import SandboxExecutor
from swarmharness.skills.sandbox.runnable import RunnableSkill


class FakeGuest:
    """Both a `GuestProcess` and the guest itself."""

    def __init__(self, control: int) -> None:
        self.init_pid = os.getpid()
        self.is_killed = False
        self.killed = asyncio.Event()
        self.words = ""
        self.control = socket.socket(fileno=control)
        self.control.setblocking(False)
        self._frames = FrameBuffer()
        self._descriptors: list[int] = []

    def inside(self, target: str) -> str:
        return target

    def stderr_tail(self) -> str:
        return self.words

    async def kill(self) -> int:
        self.is_killed = True
        self.killed.set()
        self.control.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        return -9

    def say(self, **frame: Any) -> None:
        self.control.sendall(encode(frame))

    def boot(self) -> None:
        self.say(t="booted")
        self.say(t="ready")

    async def hear(self) -> dict[str, Any]:
        while (frame := self._frames.next()) is None:
            await readable(self.control)
            data, descriptors, _, _ = socket.recv_fds(self.control, 65536, 8)
            self._descriptors += descriptors
            assert data, "the host closed the control socket"
            self._frames.feed(data)
        return frame

    async def take_call(self) -> FakeCall:
        frame = await self.hear()
        assert frame["t"] == "call"
        return FakeCall(self, frame["id"], socket.socket(fileno=self._descriptors.pop(0)))


class FakeCall:
    def __init__(self, guest: FakeGuest, name: str, channel: socket.socket) -> None:
        self.guest = guest
        self.name = name
        self.socket = channel
        channel.setblocking(False)

    def say(self, **frame: Any) -> None:
        self.socket.sendall(encode(frame))

    def answer(self, output: bytes = b"{}") -> None:
        self.say(t="started", id=self.name)
        self.say(t="result", d=output)

    def done(self, *, clean: bool = True, name: str | None = None) -> None:
        self.socket.close()
        self.guest.say(t="done", id=name or self.name, signal=0, status=0, clean=clean)


async def readable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(channel, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(channel)


class FakeLauncher:
    """Hands each guest that the engine asks for to the test."""

    def __init__(self) -> None:
        self.guests: asyncio.Queue[FakeGuest] = asyncio.Queue()
        self.all: list[FakeGuest] = []

    async def __call__(
        self, confinement: Confinement, *, argv: Sequence[str], pass_fds: Sequence[int]
    ) -> FakeGuest:
        guest = FakeGuest(os.dup(pass_fds[1]))
        self.all.append(guest)
        self.guests.put_nowait(guest)
        return guest

    async def next_ready(self) -> FakeGuest:
        guest = await self.guests.get()
        guest.boot()
        return guest


@asynccontextmanager
async def engine(*skills: RunnableSkill) -> AsyncIterator[tuple[SandboxExecutor, FakeLauncher]]:
    launcher = FakeLauncher()
    executor = SandboxExecutor(launcher, egress_log=EgressLog(StoppedClock()))
    for skill in skills:
        await executor.add(skill)
    try:
        yield executor, launcher
    finally:
        await executor.close(drain_ms=0)
        assert all(guest.is_killed for guest in launcher.all)
