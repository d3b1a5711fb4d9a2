"""A worker is a long-lived process that serves many calls of one skill, several at a time.

For skills whose import is costly beyond a fork's reach: GPU memory, native threads, models.
State leaks between calls here, so the host gives each class of callers its own worker.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from .call import enter_call_directory, make_call_directory, serve_call
from .channel import Channel, HostGone
from .control import ControlSocket
from .loader import LoadedSkill
from .zygote import wipe


class Worker:
    """One event loop for all calls; `exclusive` says that they come one at a time."""

    def __init__(
        self, skill: LoadedSkill, control: ControlSocket, scratch: Path, *, exclusive: bool
    ) -> None:
        self._skill = skill
        self._control = control
        self._scratch = scratch
        self._exclusive = exclusive
        self._number = 0
        self._calls: set[asyncio.Task[None]] = set()

    def serve(self) -> None:
        asyncio.run(self._serve())
        # Handler threads that hang would keep the interpreter from ending.
        os._exit(0)

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control, self._on_control)
        await self._ended.wait()
        loop.remove_reader(self._control)

    def _on_control(self) -> None:
        alive = self._control.fill()
        while (frame := self._control.pop()) is not None:
            if frame["t"] == "call":
                self._start(frame["id"], self._control.take_descriptor())
            elif frame["t"] == "quit":
                alive = False
        if not alive:
            self._ended.set()

    def _start(self, call_id: str, descriptor: int) -> None:
        task = asyncio.get_running_loop().create_task(self._call(call_id, descriptor))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, call_id: str, descriptor: int) -> None:
        self._number += 1
        directory = make_call_directory(self._scratch, self._number)
        if self._exclusive:
            enter_call_directory(directory)
        channel = Channel(descriptor)
        try:
            with suppress(HostGone):
                await serve_call(self._skill, channel, directory)
        finally:
            if self._exclusive:
                os.chdir(self._scratch)
            clean = wipe(directory)
            channel.close()
            with suppress(OSError):
                sys.stderr.flush()
            self._control.send(
                {"t": "done", "id": call_id, "signal": 0, "status": 0, "clean": clean}
            )
