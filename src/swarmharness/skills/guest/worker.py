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
from typing import Final

from .call import Call
from .call_directory import CallDirectory
from .channel import Channel, HostGone
from .control import ControlSocket
from .loader import LoadedSkill

_THREAD_GRACE_SECONDS: Final = 0.15  # a little less than the host's patience


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
        self._spare_directories: list[CallDirectory] = []
        self._calls: set[asyncio.Task[None]] = set()

    def serve(self) -> None:
        """Until the host goes away; then the process ends, with all its threads."""
        asyncio.run(self._serve())
        os._exit(0)

    async def _serve(self) -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._on_control, ended)
        await ended.wait()

    def _on_control(self, ended: asyncio.Event) -> None:
        alive = self._control.fill()
        while (frame := self._control.pop()) is not None:
            if frame["t"] == "call":
                self._start(frame["id"], self._control.take_descriptor())
        if not alive:
            ended.set()

    def _start(self, call_id: str, descriptor: int) -> None:
        task = asyncio.get_running_loop().create_task(self._call(call_id, descriptor))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, call_id: str, descriptor: int) -> None:
        directory = self._take_directory()
        if self._exclusive:
            directory.enter()
        channel = Channel(descriptor)
        call = Call(self._skill, channel, directory)
        try:
            with suppress(HostGone):
                await call.serve()
        finally:
            clean = await _is_over(call)
            channel.close()
            if self._exclusive:
                os.chdir(self._scratch)
            clean = self._give_back(directory) and clean
            with suppress(OSError):
                sys.stderr.flush()
            self._control.send(
                {"t": "done", "id": call_id, "signal": 0, "status": 0, "clean": clean}
            )

    def _take_directory(self) -> CallDirectory:
        if self._spare_directories:
            return self._spare_directories.pop()
        self._number += 1
        return CallDirectory(self._scratch / f"call-{self._number}")

    def _give_back(self, directory: CallDirectory) -> bool:
        """Most calls write no file; then the next one may have the same empty place."""
        if directory.is_untouched():
            self._spare_directories.append(directory)
            return True
        return directory.wipe()


async def _is_over(call: Call) -> bool:
    """A plain handler goes on in its thread after a cancellation: then the worker is used up."""
    if call.thread_end is None or call.thread_end.done():
        return True
    await asyncio.wait([call.thread_end], timeout=_THREAD_GRACE_SECONDS)
    return call.thread_end.done()
