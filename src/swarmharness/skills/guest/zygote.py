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
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from .call import enter_call_directory, make_call_directory, serve_call
from .channel import Channel, HostGone
from .control import ControlSocket
from .loader import LoadedSkill

_OWN_NAMESPACE_PID: Final = 2  # right behind the namespace's init; on a host it is the kernel's


def thread_count() -> int:
    """Native threads too, where the system tells."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return threading.active_count()


class Zygote:
    """Serves calls one after the other until the host says `quit` or goes away."""

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
        gc.collect()
        gc.freeze()
        while (frame := self._control.receive()) is not None and frame["t"] != "quit":
            if frame["t"] == "call":
                self._serve_one(frame["id"], self._control.take_descriptor())

    def _serve_one(self, call_id: str, descriptor: int) -> None:
        self._number += 1
        directory = make_call_directory(self._scratch, self._number)
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
                "clean": wipe(directory),
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
        """Whether there is more to hear: without a host, or told to quit, the call ends too."""
        alive = self._control.fill()
        frame: dict[str, Any] | None
        while (frame := self._control.pop()) is not None:
            alive = alive and frame["t"] != "quit"
            if frame["t"] == "kill" and frame["id"] == call_id:
                os.kill(child, signal.SIGKILL)
        if not alive:
            os.kill(child, signal.SIGKILL)
        return alive

    def _run_in_child(self, descriptor: int, directory: Path) -> None:
        """Never returns: the zygote's own work must not go on in the child."""
        status = 1
        try:
            self._control.close()
            self._confine_call(str(directory))
            enter_call_directory(directory)
            _reseed()
            asyncio.run(self._call(descriptor, directory))
            status = 0
        except HostGone:
            status = 0
        finally:
            with suppress(OSError):
                sys.stderr.flush()
            os._exit(status)

    async def _call(self, descriptor: int, directory: Path) -> None:
        await serve_call(self._skill, Channel(descriptor), directory)
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
    if os.getpid() == _OWN_NAMESPACE_PID:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    while True:
        for child in _children():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:  # no /proc in this sandbox tier: `kill(-1)` above has reached them all
        return []
    return [int(pid) for pid in text.split()]


def wipe(directory: Path) -> bool:
    """Whether the call's directory is gone; what refuses to go costs the sandbox its life."""
    try:
        shutil.rmtree(directory)
    except (OSError, RecursionError):
        return _wipe_stubborn(directory)
    return True


def _wipe_stubborn(directory: Path) -> bool:
    """Directories without permissions are opened up first."""
    try:
        for place, _, _ in os.walk(directory, onerror=None):
            os.chmod(place, 0o700)  # noqa: PTH101  a plain path from os.walk
        shutil.rmtree(directory)
    except (OSError, RecursionError):
        return False
    return True
