"""The virtual loop is an asyncio event loop whose time passes only when nothing can happen now.

Theory of operation. Time is an integer count of microseconds. While a callback is ready it
runs and no time passes; when none is, time jumps to the next timer. An hour of waiting costs
nothing, and a run depends on nothing but the program and its seed. Four things would break
that, and each is closed here:

- *Order.* asyncio keeps tasks in sets (`TaskGroup`, `wait`), whose order follows memory
  addresses. Tasks and futures of this loop hash to a creation counter instead. Timers of one
  instant run in the order in which they were set.
- *The real world.* Threads, sockets, names, signals, children and clocks raise; see `guard.py`.
  A fault ends the run even if the program swallows the exception.
- *The garbage collector* runs finalisers whenever it likes, so it is switched off and called
  at fixed event counts.
- *Hanging.* Nothing scheduled is reported as a deadlock, with the place where each task waits;
  a program that lets no time pass is a livelock.

A run is fragile on purpose: a task left behind, or a failure nobody looked at, fails it.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import random
import sys
import weakref
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, NoReturn, TypeVar, TypeVarTuple, final

from swarmharness.simulator.faults import (
    Deadlock,
    ForbiddenUse,
    LeakedTasks,
    Livelock,
    SimulationFault,
    UnhandledFailure,
)
from swarmharness.simulator.guard import guarded

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

EVENTS_PER_INSTANT = 1_000_000  # a thousand nodes waking a thousand peers at once stay below
EVENTS_PER_COLLECTION = 100_000  # often enough for memory, seldom enough for speed
EVENTS_TO_UNWIND = 1_000_000  # a cancelled program may clean up, not live on
CANCELLED_TIMERS_KEPT = 100  # asyncio's own threshold before it sweeps its timers
TASKS_NAMED = 20  # in a report; more would hide the first
_US = 1_000_000
_TOLERANCE_US = 0.01  # float seconds are this exact for a virtual month


@final
class VirtualFuture(asyncio.Future[_T]):
    """A future whose place in a set does not depend on its address."""

    def __init__(self, number: int, *, loop: VirtualLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


@final
class VirtualTask(asyncio.Task[_T]):
    """A task whose place in a set does not depend on its address."""

    def __init__(
        self, number: int, coroutine: Coroutine[Any, Any, _T], *, loop: VirtualLoop, **named: Any
    ) -> None:
        self._number = number  # before asyncio registers the task in a set
        super().__init__(coroutine, loop=loop, **named)

    def __hash__(self) -> int:
        return self._number


@final
class VirtualTimer(events.TimerHandle):
    """A timer that knows whether it still waits: cancelling one that ran frees nothing."""

    __slots__ = ("is_waiting",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.is_waiting = True


def _refused(deed: str) -> Any:
    def refuse(self: VirtualLoop, *_arguments: Any, **_named: Any) -> NoReturn:
        fault = ForbiddenUse(f"The simulated program {deed}: there is no such thing on this loop.")
        self.note_fault(fault)
        raise fault

    return refuse


@final
class VirtualLoop(asyncio.AbstractEventLoop):
    """Use `run_virtual`; inside a run, `asyncio.get_running_loop()` is one of these."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._now_us = 0
        self._count = 0  # of futures, tasks and timers together
        self._ready: deque[events.Handle] = deque()
        self._timers: list[tuple[int, int, VirtualTimer]] = []
        self._cancelled_timers = 0
        self._fault: SimulationFault | None = None
        self._is_closed = False
        self._generators: weakref.WeakValueDictionary[int, AsyncGenerator[Any, Any]] = (
            weakref.WeakValueDictionary()
        )
        self._exception_handler: Any = None
        self._task_factory: Any = None

    # Time

    def now_us(self) -> int:
        """Virtual microseconds since the run began."""
        return self._now_us

    def time(self) -> float:
        return self._now_us / _US

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> events.TimerHandle:
        """Never early, and never now if `when` is later: waiting always lets time pass."""
        self._check_open()
        when_us = max(self._now_us, -int(-(when * _US - _TOLERANCE_US) // 1))
        if when_us == self._now_us and when > self.time():
            when_us += 1
        timer = VirtualTimer(when, callback, args, self, context)
        heapq.heappush(self._timers, (when_us, self._next_number(), timer))
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> events.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, timer: events.TimerHandle) -> None:
        """Called by asyncio; far timers that were cancelled must not pile up."""
        assert isinstance(timer, VirtualTimer)
        if timer.is_waiting:
            self._cancelled_timers += 1
        if self._cancelled_timers > max(CANCELLED_TIMERS_KEPT, len(self._timers) // 2):
            self._timers = [entry for entry in self._timers if not entry[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled_timers = 0

    # Callbacks, futures, tasks

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> events.Handle:
        self._check_open()
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> events.Handle:
        """Other threads would come in at moments no seed decides."""
        if asyncio._get_running_loop() is not self:  # noqa: SLF001  None on other threads
            raise ForbiddenUse("Another thread called into a virtual loop.")
        return self.call_soon(callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return VirtualFuture(self._next_number(), loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        **named: Any,
    ) -> asyncio.Task[_T]:
        """`named` differs between Python versions (`context`, `eager_start`)."""
        self._check_open()
        if self._task_factory is not None:
            made: asyncio.Task[_T] = self._task_factory(self, coro, **named)
            return made
        number = self._next_number()
        assert asyncio.iscoroutine(coro), "a task is made from a coroutine"
        return VirtualTask(number, coro, loop=self, name=name or f"task-{number}", **named)

    def set_task_factory(self, factory: Any) -> None:
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        return self._task_factory

    # Failures

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What asyncio would only log ends the run."""
        if self._exception_handler is not None:
            self._exception_handler(self, context)
            return
        self.default_exception_handler(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        cause = context.get("exception")
        if isinstance(cause, SimulationFault):
            self.note_fault(cause)
            return
        fault = UnhandledFailure(f"{context.get('message', 'A callback failed')}: {cause!r}")
        fault.__cause__ = cause
        self.note_fault(fault)

    def set_exception_handler(self, handler: Any) -> None:
        self._exception_handler = handler

    def get_exception_handler(self) -> Any:
        return self._exception_handler

    def note_fault(self, fault: SimulationFault) -> None:
        """The first one is the cause; what follows is noise."""
        if self._fault is None:
            self._fault = fault

    # Life

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self  # noqa: SLF001  what asyncio itself asks

    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._is_closed = True
        self._ready.clear()
        self._timers.clear()

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001  asyncio's signature
        assert not enabled, "asyncio's debug mode reads the real clock"

    async def shutdown_asyncgens(self) -> None:
        """In the order in which they were first iterated."""
        for _number, generator in sorted(self._generators.items()):
            await generator.aclose()

    async def shutdown_default_executor(self) -> None:
        """There is none."""

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Once per loop."""
        old_hooks = sys.get_asyncgen_hooks()
        events._set_running_loop(self)  # noqa: SLF001  every loop does
        sys.set_asyncgen_hooks(self._generator_started, self._generator_dropped)
        try:
            task = self.create_task(main, name="main")
            self._turn(task.done)
            return self._verdict(task)
        finally:
            sys.set_asyncgen_hooks(*old_hooks)
            events._set_running_loop(None)  # noqa: SLF001  every loop does
            self.close()

    def _verdict(self, main: asyncio.Task[_T]) -> _T:
        """The fault if there is one, else what `main` returned or raised."""
        left = self._pending_tasks()
        if self._fault is None and left:
            listing = _listing(left)
            if main.done() and (main.cancelled() or main.exception() is not None):
                _failure_of(main).add_note(f"Tasks were left running:{listing}")
            elif main.done():
                self.note_fault(LeakedTasks(f"{len(left)} tasks were left running:{listing}"))
            else:
                sentence = f"Nothing is scheduled, and {len(left)} tasks wait:{listing}"
                self.note_fault(Deadlock(sentence))
        fault = self._fault
        self._unwind(left)
        if fault is None and main.done() and not main.cancelled() and main.exception() is None:
            gc.collect()  # failures that nobody looked at are reported by finalisers
            fault = self._fault
        if fault is not None:
            if main.done():
                _retrieve(main)
            raise fault
        return main.result()

    def _unwind(self, left: list[asyncio.Task[Any]]) -> None:
        for task in left:
            task.cancel()
        closing = self.create_task(self.shutdown_asyncgens(), name="close generators")
        every = [*left, closing]
        noted, self._fault = self._fault, None  # the turn below must run in spite of it
        self._turn(lambda: all(task.done() for task in every), limit=EVENTS_TO_UNWIND)
        self._fault = noted if noted is not None else self._fault
        for task in every:
            if task.done():
                _retrieve(task)

    def _turn(self, is_done: Callable[[], bool], *, limit: int | None = None) -> None:
        """Until done, a fault, the limit, or nothing being left to run."""
        ran = ran_now = 0
        instant_us = self._now_us
        while not is_done() and self._fault is None and self._wake():
            if self._now_us != instant_us:
                instant_us, ran_now = self._now_us, 0
            for _ in range(len(self._ready)):
                handle = self._ready.popleft()
                if handle.cancelled():
                    continue
                handle._run()  # noqa: SLF001  what a loop is for
                ran += 1
                ran_now += 1
                if ran % EVENTS_PER_COLLECTION == 0:
                    gc.collect()
            if ran_now > EVENTS_PER_INSTANT:
                listing = _listing(self._pending_tasks())
                self.note_fault(
                    Livelock(f"{ran_now} events ran while no time passed. Tasks:{listing}")
                )
            if limit is not None and ran > limit:
                return

    def _wake(self) -> bool:
        """Whether anything is ready, after letting time pass if nothing was."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)[2].is_waiting = False
            self._cancelled_timers -= 1
        if not self._ready and timers:
            self._now_us = timers[0][0]
        while timers and timers[0][0] <= self._now_us:
            timer = heapq.heappop(timers)[2]
            timer.is_waiting = False
            if timer.cancelled():
                self._cancelled_timers -= 1
            else:
                self._ready.append(timer)
        return bool(self._ready)

    def _pending_tasks(self) -> list[asyncio.Task[Any]]:
        return sorted(asyncio.all_tasks(self), key=hash)

    def _next_number(self) -> int:
        self._count += 1
        return self._count

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("Event loop is closed")  # the words that callers of asyncio know

    def _generator_started(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators[self._next_number()] = generator

    def _generator_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self._is_closed:
            self.create_task(generator.aclose(), name="close generator")

    # What this world has not

    run_forever = _refused("asked to run for ever")
    run_until_complete = _refused("ran a loop inside the loop")
    stop = _refused("stopped the loop")
    run_in_executor = _refused("used a thread pool")
    set_default_executor = _refused("used a thread pool")
    getaddrinfo = _refused("resolved a name")
    getnameinfo = _refused("resolved a name")
    create_connection = _refused("opened a socket")
    create_server = _refused("opened a socket")
    create_unix_connection = _refused("opened a socket")
    create_unix_server = _refused("opened a socket")
    connect_accepted_socket = _refused("opened a socket")
    create_datagram_endpoint = _refused("opened a socket")
    start_tls = _refused("opened a socket")
    sendfile = _refused("used a socket")
    sock_accept = _refused("used a socket")
    sock_connect = _refused("used a socket")
    sock_recv = _refused("used a socket")
    sock_recv_into = _refused("used a socket")
    sock_recvfrom = _refused("used a socket")
    sock_recvfrom_into = _refused("used a socket")
    sock_sendall = _refused("used a socket")
    sock_sendto = _refused("used a socket")
    sock_sendfile = _refused("used a socket")
    add_reader = _refused("watched a descriptor")
    remove_reader = _refused("watched a descriptor")
    add_writer = _refused("watched a descriptor")
    remove_writer = _refused("watched a descriptor")
    connect_read_pipe = _refused("opened a pipe")
    connect_write_pipe = _refused("opened a pipe")
    add_signal_handler = _refused("handled a signal")
    remove_signal_handler = _refused("handled a signal")
    subprocess_exec = _refused("started a process")
    subprocess_shell = _refused("started a process")


def run_virtual(coro: Coroutine[Any, Any, _T], *, seed: int = 0) -> _T:
    """Run to the end in virtual time; the module `random` starts from `seed` too."""
    if asyncio._get_running_loop() is not None:  # noqa: SLF001  the public one raises
        coro.close()
        raise RuntimeError("run_virtual cannot be called from a running event loop")
    loop = VirtualLoop(seed)
    random_state = random.getstate()
    collected_automatically = gc.isenabled()
    random.seed(seed)
    gc.disable()
    gc.freeze()  # what existed before is not this run's garbage
    try:
        with guarded(loop.note_fault):
            return loop.run(coro)
    finally:
        gc.unfreeze()
        if collected_automatically:
            gc.enable()
        random.setstate(random_state)


def _failure_of(task: asyncio.Task[Any]) -> BaseException:
    failure = asyncio.CancelledError() if task.cancelled() else task.exception()
    assert failure is not None
    return failure


def _retrieve(task: asyncio.Task[Any]) -> None:
    """The run has failed already: asyncio need not complain about this task as well."""
    if not task.cancelled():
        task.exception()


def _listing(tasks: list[asyncio.Task[Any]]) -> str:
    lines = [f"\n  {task.get_name()}: {_place(task)}" for task in tasks[:TASKS_NAMED]]
    if len(tasks) > TASKS_NAMED:
        lines.append(f"\n  and {len(tasks) - TASKS_NAMED} more")
    return "".join(lines)


def _place(task: asyncio.Task[Any]) -> str:
    """The innermost coroutine that a task stands in, and the line."""
    inner: Any = task.get_coro()
    place = "not started"
    while inner is not None:
        code = getattr(inner, "cr_code", None) or getattr(inner, "ag_code", None)
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "ag_frame", None)
        if code is None or frame is None:
            break
        place = f"{inner.__qualname__} ({code.co_filename}:{frame.f_lineno})"
        inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
    return place
