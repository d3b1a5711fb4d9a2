"""A zygote has imported a skill once and forks a fresh process for every call of it.

Theory of operation. The fork gives each call the imported state without the time an import
takes, and nothing that the call does to its memory survives it. One call at a time: so when
its process has ended, *every* other process that is left over belongs to that call and is
killed, and its directory is wiped, before the host hears `done`. The host kills the whole
sandbox when `done` is late or says that something could not be cleaned.

A process with several threads cannot be forked safely (locks stay locked in the child). Skills
whose import starts threads are reported to the host, which runs them in worker mode.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from .call import Call
from .call_directory import CallDirectory
from .channel import Channel, HostGone
from .confine import own_children
from .control import ControlSocket
from .frames import encode
from .loader import LoadedSkill

_REHEARSALS: Final = 10  # the interpreter adapts code after eight runs
_OWN_NAMESPACE_PID: Final = 2  # right behind the namespace's init; on a host it is the kernel's


def thread_count() -> int:
    """Native threads too, where the system tells."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return threading.active_count()


class _Nothing(BaseModel):
    pass


async def _answer_nothing(value: _Nothing) -> _Nothing:
    return value


async def _rehearse(scratch: Path) -> None:
    """A call that never leaves this process.

    The interpreter rewrites code that it runs often; what it has rewritten before the fork need
    not be rewritten, and its memory not be copied, in every child.
    """
    ours, theirs = socket.socketpair()
    with ours:
        request = {"t": "call", "id": "", "task": "", "caller": "", "deadline_ms": 0, "d": b"{}"}
        ours.send(encode(request))
        skill = LoadedSkill(_answer_nothing, _Nothing, _Nothing, "plain", False, "")  # noqa: FBT003
        channel = Channel(theirs.detach())
        directory = CallDirectory(scratch / "rehearsal")
        await Call(skill, channel, directory).serve()
        channel.close()
        directory.wipe()


class Zygote:
    """Serves calls one after the other until the host goes away."""

    def __init__(
        self,
        skill: LoadedSkill,
        control: ControlSocket,
        scratch: Path,
        confine_call: Callable[[str], None],
    ) -> None:
        self._skill = skill
        self._control = control
        self._scratch = scratch
        self._confine_call = confine_call
        self._number = 0

    def serve(self) -> None:
        for _ in range(_REHEARSALS):
            asyncio.run(_rehearse(self._scratch))
        gc.collect()
        gc.freeze()
        while (frame := self._control.receive()) is not None:
            if frame["t"] == "call":
                self._serve_one(frame["id"], self._control.take_descriptor())

    def _serve_one(self, call_id: str, descriptor: int) -> None:
        self._number += 1
        directory = CallDirectory(self._scratch / f"call-{self._number}")
        child = os.fork()
        if child == 0:
            self._run_in_child(descriptor, directory)
        os.close(descriptor)
        self._wait(child, call_id)
        _, status = os.waitpid(child, 0)
        kill_leftovers()
        self._control.send(
            {
                "t": "done",
                "id": call_id,
                "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
                "status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
                "clean": directory.wipe(),
            }
        )

    def _wait(self, child: int, call_id: str) -> None:
        process = os.pidfd_open(child)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        try:
            while True:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if self._control.fileno() in ready and not self._obey(child, call_id):
                    poll.unregister(self._control)
                if process in ready:
                    return
        finally:
            os.close(process)

    def _obey(self, child: int, call_id: str) -> bool:
        """Whether there is more to hear: without a host the call ends too."""
        alive = self._control.fill()
        frame: dict[str, Any] | None
        while (frame := self._control.pop()) is not None:
            if frame["t"] == "kill" and frame["id"] == call_id:
                os.kill(child, signal.SIGKILL)
        if not alive:
            os.kill(child, signal.SIGKILL)
        return alive

    def _run_in_child(self, descriptor: int, directory: CallDirectory) -> None:
        """Never returns: the zygote's own work must not go on in the child."""
        status = 1
        try:
            self._control.close()
            self._confine_call(str(directory.path))
            directory.enter()
            _reseed()
            # Not asyncio.run: its tidying up is for processes that go on.
            asyncio.new_event_loop().run_until_complete(self._call(descriptor, directory))
            status = 0
        except HostGone:
            status = 0
        except BaseException:  # noqa: BLE001  nobody above may see it: this is not the zygote
            traceback.print_exc()
        finally:
            with suppress(OSError):
                sys.stderr.flush()
            os._exit(status)

    async def _call(self, descriptor: int, directory: CallDirectory) -> None:
        await Call(self._skill, Channel(descriptor), directory).serve()
        with suppress(OSError):
            sys.stderr.flush()
        # Straight out: a handler's leftover threads and exit hooks get no second life.
        os._exit(0)


def _reseed() -> None:
    """Python reseeds `random` after a fork; numpy would draw the same numbers in every call."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def kill_leftovers() -> None:
    """Kills and reaps what the call left running.

    In a process namespace of our own, `kill(-1)` reaches everything but the namespace's init
    at once, so a fork bomb cannot outrun it. Without one, orphans come to us (bootstrap makes
    this process their reaper) and are killed child by child until none is left.
    """
    own_namespace = os.getpid() == _OWN_NAMESPACE_PID
    if own_namespace:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    while True:
        for child in [] if own_namespace else own_children():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
