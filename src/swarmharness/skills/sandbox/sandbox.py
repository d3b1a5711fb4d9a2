"""A sandbox is one launched guest and its control socket, seen from the host.

Theory of operation. The guest's word moves it only forward through the table in `lifecycle.py`;
any frame out of turn is a breach, and a breach is death. Calls enter by `begin`, which passes
the guest its end of the call's socket. They leave when the guest reports `done`; a call that the
host has given up (`give_up`) is first merely abandoned: its socket is closed, which the handler
feels as cancellation. After `STEP_SECONDS` its process is killed, after as long again the whole
sandbox, and nothing survives that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, Protocol, assert_never, final

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.printable import printable_line
from swarmharness.skills.call import CallerClass
from swarmharness.skills.errors import (
    ResourceExceeded,
    SandboxLost,
    SandboxProtocolBroken,
    SandboxUnavailable,
    SkillBroken,
)
from swarmharness.skills.sandbox import mounts
from swarmharness.skills.sandbox.boot_plan import BootMode, confinement_of, first_orders
from swarmharness.skills.sandbox.confinement import MIB, Confinement
from swarmharness.skills.sandbox.egress import receive_listener
from swarmharness.skills.sandbox.guest_frames import (
    CONTROL_FRAMES,
    MAX_CONTROL_FRAME,
    BootedFrame,
    ControlFrame,
    DescribedFrame,
    DoneFrame,
    FailedFrame,
    GuestFrameReader,
    ReadyFrame,
    ThreadsFrame,
    encode_frame,
)
from swarmharness.skills.sandbox.lifecycle import Event, State, step
from swarmharness.skills.sandbox.meters import ProcessMeter, ProcessReading, guest_pid_of
from swarmharness.skills.sandbox.runnable import RunnableSkill
from swarmharness.skills.sandbox.watchdog import Breach, TreeMeter, Watchdog

BOOT_SECONDS: Final = 5.0  # measured 0.1 s cold
IMPORT_SECONDS: Final = 30.0  # scientific packages take seconds on a loaded machine
STEP_SECONDS: Final = 0.2  # for `finally` blocks to run, then for a kill to be confirmed
WORDS: Final = 300  # characters of the last line that a dying guest wrote; a sentence, no page
_RECEIVE_BYTES: Final = 64 * 1024

_log = logging.getLogger(__name__)


class GuestProcess(Protocol):
    """What `launch` gives: everything in the sandbox, held by its first process."""

    @property
    def init_pid(self) -> int: ...

    def inside(self, target: str) -> str: ...

    def stderr_tail(self) -> str: ...

    async def kill(self) -> int: ...


class Launcher(Protocol):
    """Starts guests; the real one confines them."""

    async def __call__(
        self, confinement: Confinement, *, argv: Sequence[str], pass_fds: Sequence[int]
    ) -> GuestProcess: ...


Spawn = Callable[[Coroutine[None, None, None]], asyncio.Task[None]]
"""Starts a task that the executor waits for before it is closed."""


class NeedsWorker(Exception):
    """The skill's import started threads, so that it cannot be forked. Only in mode `fork`."""


@final
class Ending:
    """How a call left the sandbox; `is_known` is false when only the sandbox's death says so."""

    def __init__(self, *, signal: int = 0, status: int = 0, is_known: bool = True) -> None:
        self.signal = signal
        self.status = status
        self.is_known = is_known


@final
class _Place:
    """One call in flight."""

    def __init__(self, ending: asyncio.Future[Ending]) -> None:
        self.ending = ending
        self.timer: asyncio.TimerHandle | None = None
        self.is_answered = False


@final
class Sandbox:
    """Owned by a pool, which hears through `on_change` of every place that frees and of its end."""

    def __init__(
        self,
        skill: RunnableSkill,
        mode: BootMode,
        caller: CallerClass,
        *,
        places: int,
        confined: bool,
        on_change: Callable[[Sandbox], None],
        spawn: Spawn,
        serve_network: Callable[[RunnableSkill, socket.socket], Coroutine[None, None, None]],
    ) -> None:
        self.skill = skill
        self.mode = mode
        self.state = State.SPAWN
        self.served = 0
        self.description = b""
        self.cause_of_death: SwarmError | None = None
        """Told to the calls it takes with it; None when there is nothing to add."""
        self.has_been_ready = False
        self.went_astray = False
        """It did something while it had nothing to do, and was ended for that."""
        self.is_stuck = False
        self._caller = caller
        self._confined = confined
        self._places = places
        self._calls: dict[str, _Place] = {}
        self._on_change = on_change
        self._spawn = spawn
        self._serve_network = serve_network
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._frames = GuestFrameReader(CONTROL_FRAMES, MAX_CONTROL_FRAME)
        self._starter: asyncio.Task[object] | None = None
        self._process: GuestProcess | None = None
        self._control: socket.socket | None = None
        self._proxy: asyncio.Task[None] | None = None
        self._meter: ProcessMeter | None = None
        self._tree: TreeMeter | None = None
        self._watchdog: Watchdog | None = None
        self._host_cpu_ms = 0
        self._idle_processes = 0
        self._last_reading = ProcessReading(0, 0)
        self._is_buried = False
        self._is_gone = asyncio.Event()

    @property
    def age_seconds(self) -> float:
        return self._loop.time() - self._started_at

    @property
    def calls_running(self) -> int:
        """Without those that a worker has answered and is only tidying up after."""
        return sum(not place.is_answered for place in self._calls.values())

    @property
    def has_place(self) -> bool:
        return self.state in (State.READY, State.BUSY) and self.calls_running < self._places

    def read_meter(self) -> ProcessReading:
        """Of the process that has imported the skill and its descendants, the most that is known.

        Time of children that were never waited for counts as far as the watchdog saw it, and
        memory since the sandbox was idle. Of a dead sandbox: what was read at its end.
        """
        if self._meter is None or self._tree is None:
            return self._last_reading
        reading = self._meter.read()
        return ProcessReading(
            max(reading.cpu_ms, self._tree.max_cpu_ms - self._host_cpu_ms),
            max(reading.rss_kib, self._tree.max_rss_kib),
        )

    def last_words(self) -> str:
        """What the guest wrote to its standard error, at most 64 KiB; never for a caller."""
        return self._process.stderr_tail() if self._process is not None else ""

    async def start(self, launch: Launcher) -> None:
        """Returns when calls may come; raises why they never can, and then it is gone."""
        if self._is_buried:
            # Ended between being planned and this first step: nothing may be opened any more.
            raise self.cause_of_death or SandboxLost("The sandbox was ended before its start.")
        self._starter = asyncio.current_task()
        try:
            await self._boot(launch)
            await self._import()
        except BaseException as error:
            self._starter = None
            if self.state is State.DEAD:
                self._bury()
            else:
                self.destroy()
            await self._is_gone.wait()
            if isinstance(error, asyncio.CancelledError) and self.cause_of_death is not None:
                # Our own `destroy` has cut the start short, unless somebody else cancels it too.
                task = asyncio.current_task()
                assert task is not None
                if task.uncancel() == 0:
                    raise self.cause_of_death from None
            raise
        finally:
            self._starter = None

    async def wait_gone(self) -> None:
        await self._is_gone.wait()

    def reserve(self, call_id: str) -> asyncio.Future[Ending]:
        """Takes a place; `done` or the sandbox's death resolves the future."""
        assert self.has_place
        self.served += 1
        if self.calls_running == 0 and self._tree is not None:
            self._tree.reset_max()
        place = _Place(self._loop.create_future())
        self._calls[call_id] = place
        self._step(Event.LEASED)
        return place.ending

    def begin(self, call_id: str, descriptor: int) -> None:
        """Hands the guest its end of the call's socket."""
        self._send({"t": "call", "id": call_id}, descriptor)

    def withdraw(self, call_id: str) -> None:
        """Gives back a place that `begin` never used."""
        if call_id in self._calls:
            self._free(call_id, Ending())

    def expect_end(self, call_id: str, grace_seconds: float, *, answered: bool = False) -> None:
        """The call's socket is closed or its last frame read; what is left of it is swept away."""
        place = self._calls.get(call_id)
        if place is not None and place.timer is None:
            place.timer = self._loop.call_later(grace_seconds, self._kill_call, call_id)
            if answered and self.mode is BootMode.WORKER:
                place.is_answered = True
                self._on_change(self)

    def retire(self) -> None:
        """No further calls; those in flight may finish."""
        if self.state in (State.READY, State.BUSY):
            self._step(Event.RETIRED)
            self._after_step()

    def destroy(self, cause: SwarmError | None = None) -> None:
        """Everything in it dies now."""
        if self.state is State.DEAD:
            return
        self.cause_of_death = cause
        self._step(Event.LOST)
        self._after_step()

    async def _boot(self, launch: Launcher) -> None:
        host_end, guest_end = socket.socketpair()
        host_end.settimeout(0)
        self._control = host_end
        orders_read, orders_write = os.pipe()
        try:
            self._process = await launch(
                confinement_of(self.skill, self.mode, self._caller),
                argv=mounts.guest_argv("bootstrap", str(orders_read), str(guest_end.fileno())),
                pass_fds=(orders_read, guest_end.fileno()),
            )
            self._watch(self._process.init_pid)
            orders = first_orders(
                self.skill, self.mode, inside=self._process.inside, confined=self._confined
            )
            os.write(orders_write, orders)
        finally:
            guest_end.close()
            os.close(orders_read)
            os.close(orders_write)
        self._step(Event.LAUNCHED)
        try:
            async with asyncio.timeout(BOOT_SECONDS):
                if self.skill.network_allow and self.mode is not BootMode.DESCRIBE:
                    listener = await receive_listener(host_end)
                    self._proxy = self._spawn(self._serve_network(self.skill, listener))
                frame = await self._hear()
        except TimeoutError:
            raise SandboxUnavailable(
                f"The sandbox was not ready within {BOOT_SECONDS:.0f} s."
            ) from None
        if not isinstance(frame, BootedFrame):
            raise SandboxUnavailable(
                f"The sandbox did not start: {await self._dying_words()}.",
                hint="`swarm status` tells which protection this machine lacks.",
            )
        self._step(Event.BOOTED)

    async def _import(self) -> None:
        try:
            async with asyncio.timeout(IMPORT_SECONDS):
                frame = await self._hear()
        except TimeoutError:
            raise SkillBroken(
                f"Importing {self.skill.name} took longer than {IMPORT_SECONDS:.0f} s."
            ) from None
        match frame:
            case FailedFrame():
                raise SkillBroken(f"{self.skill.name}: {frame.reason}")
            case None:
                raise SkillBroken(
                    f"Importing {self.skill.name} ended its process: {await self._dying_words()}."
                )
            case DescribedFrame() if self.mode is BootMode.DESCRIBE:
                self.description = frame.d
                self.destroy()
            case ReadyFrame() if self.mode is not BootMode.DESCRIBE:
                assert self._process is not None
                assert self._control is not None
                self._take_up_service(self._process.init_pid, self._control)
            case ThreadsFrame() if self.mode is BootMode.FORK:
                raise NeedsWorker(
                    f"The import of {self.skill.name} left {frame.count} threads running."
                )
            case _:
                raise SandboxProtocolBroken("The sandbox spoke out of turn during its start.")

    def _watch(self, init_pid: int) -> None:
        self._tree = TreeMeter(init_pid)
        self._watchdog = Watchdog(
            self._tree,
            self._on_breach,
            limit_bytes=self.skill.resources.memory_mb * MIB,
        )
        self._watchdog.start()

    def _take_up_service(self, init_pid: int, control: socket.socket) -> None:
        guest_pid = guest_pid_of(init_pid)
        try:
            self._meter = ProcessMeter(guest_pid)
        except OSError:
            raise SkillBroken(f"{self.skill.name} ended right after its import.") from None
        assert self._tree is not None
        usage = self._tree.sample()
        self._host_cpu_ms = max(0, usage.cpu_ms - self._meter.read().cpu_ms)
        if self.mode is BootMode.FORK:
            # The zygote, and its namespace's init where there is one.
            self._idle_processes = 1 if guest_pid == init_pid else 2
        else:
            # A worker may keep what its import has started, but nothing that a call has.
            self._idle_processes = usage.processes
        self._step(Event.IMPORTED)
        self.has_been_ready = True
        self._loop.add_reader(control.fileno(), self._on_control)
        self._on_change(self)

    async def _hear(self) -> ControlFrame | None:
        """During the start only; None when the guest is gone."""
        assert self._control is not None
        while (frame := self._frames.next()) is None:
            try:
                data = await self._loop.sock_recv(self._control, _RECEIVE_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._frames.feed(data)
        return frame

    async def _dying_words(self) -> str:
        """The last line that it wrote: for the owner, who asked for the description or the log."""
        self.destroy()
        await self._is_gone.wait()
        lines = self.last_words().strip().splitlines()
        last = printable_line(lines[-1][-WORDS:]).rstrip(".") if lines else "it gave no reason"
        if self.mode is BootMode.DESCRIBE:
            return last
        _log.info("A sandbox of %s did not start: %s.", self.skill.name, last)
        return "the reason is in the node's log"

    def _on_control(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self.destroy()
            return
        self._frames.feed(data)
        try:
            while self.state is not State.DEAD and (frame := self._frames.next()) is not None:
                if not isinstance(frame, DoneFrame) or frame.id not in self._calls:
                    raise SandboxProtocolBroken("The sandbox ended a call that it was not given.")
                self._free(frame.id, Ending(signal=frame.signal, status=frame.status))
                if not frame.clean:
                    self.retire()
        except SandboxProtocolBroken as breach:
            self.destroy(breach)

    def _free(self, call_id: str, ending: Ending) -> None:
        place = self._calls.pop(call_id)
        if place.timer is not None:
            place.timer.cancel()
        place.ending.set_result(ending)
        self._step(Event.FREED if self._calls else Event.EMPTIED)
        self._after_step()

    def _kill_call(self, call_id: str) -> None:
        if self.mode is BootMode.FORK:
            self._send({"t": "kill", "id": call_id})
        if call_id in self._calls:
            self._calls[call_id].timer = self._loop.call_later(STEP_SECONDS, self.destroy)

    def _send(self, frame: dict[str, str], *descriptors: int) -> None:
        if self.state is State.DEAD:
            return
        assert self._control is not None
        data = encode_frame(frame)
        try:
            sent = socket.send_fds(self._control, [data], list(descriptors))
        except OSError:
            sent = 0
        if sent != len(data):
            # An honest guest reads at once; its buffer holds thousands of these.
            self.destroy()

    def _step(self, event: Event) -> None:
        state = step(self.state, event)
        assert state is not None, f"a sandbox in state {self.state} cannot be {event}"
        self.state = state
        if self._watchdog is not None:
            if state is State.READY:
                self._watchdog.rest(self._idle_processes)
            elif event is Event.LEASED:
                self._watchdog.start()

    def _after_step(self) -> None:
        if self.state is State.DEAD:
            if self._starter is not None and self._starter is not asyncio.current_task():
                # Only the start itself knows what it has opened so far; it buries what it has.
                self._starter.cancel()
            else:
                self._bury()
        self._on_change(self)

    def _on_breach(self, breach: Breach) -> None:
        match breach.kind:
            case "memory":
                fault = (
                    f"used {breach.found // 1024} MiB of memory,"
                    f" allowed are {self.skill.resources.memory_mb}"
                )
            case "processes":
                fault = f"ran {breach.found} processes and threads, more than allowed"
            case "leftovers":
                fault = f"had {breach.found} processes left over from a call or its import"
            case "burning":
                fault = f"used {breach.found} % of a processor without a call"
            case _:
                assert_never(breach.kind)
        if self.state is State.READY:
            self.went_astray = True
            _log.warning("An idle sandbox of %s was ended: it %s.", self.skill.name, fault)
        self.destroy(ResourceExceeded(f"The sandbox {fault}.", data={"kind": breach.kind}))

    def _bury(self) -> None:
        assert self.state is State.DEAD
        if self._is_buried:
            return
        self._is_buried = True
        if self._control is not None:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
        if self._meter is not None:
            assert self._tree is not None
            self._tree.sample()
            self._last_reading = self.read_meter()
            self._meter.close()
            self._meter = None
        if self._proxy is not None:
            self._proxy.cancel()
        if self._watchdog is not None:
            self._watchdog.stop()
        calls, self._calls = self._calls, {}
        for place in calls.values():
            if place.timer is not None:
                place.timer.cancel()
            place.ending.set_result(Ending(is_known=False))
        self._spawn(self._kill_process())

    async def _kill_process(self) -> None:
        try:
            if self._process is not None:
                await self._process.kill()
        except SwarmError as error:
            self.is_stuck = True
            _log.error("skill %s: %s", self.skill.name, error.sentence)
            self._on_change(self)
        finally:
            self._is_gone.set()
