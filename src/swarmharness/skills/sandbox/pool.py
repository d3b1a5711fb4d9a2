"""A pool keeps sandboxes of one skill generation ready for one class of callers.

Theory of operation. At most `concurrency` calls run; the rest wait in line, and the line has an
end (`Overloaded`). Forked and oneshot calls use a sandbox each, and one spare is kept beyond
them once the pool has proved to be used twice: a sandbox that had to be killed is then replaced
without anybody waiting. A worker takes all calls of the pool at once and has no spare, because
what made it a worker (a model in memory) is what nobody wants twice.

An import that fails is not tried again at once: the pool answers with the same reason until its
back-off is over, and every further failure makes it longer.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, final

from swarmharness.kernel.errors import SwarmError, from_record
from swarmharness.skills.errors import (
    Overloaded,
    RunCancelled,
    SandboxUnavailable,
    SkillBroken,
)
from swarmharness.skills.sandbox.lifecycle import State
from swarmharness.skills.sandbox.runnable import Isolation, RunnableSkill
from swarmharness.skills.sandbox.sandbox import (
    Ending,
    Launcher,
    NeedsWorker,
    Sandbox,
    Spawn,
)

SPARES: Final = 1  # kept warm beyond the places that are taken
IDLE_SECONDS: Final = 300.0  # people come back within minutes; an import costs seconds
BACKOFF_SECONDS: Final = (1.0, 17.0, 300.0)  # after the first, second, any further failed start
WORKER_CALLS: Final = 10_000  # a leak is bounded; an import each 1,000 cost 40 % of the rate
WORKER_SECONDS: Final = 3600.0  # seldom enough to cost nothing, often enough for a slow leak
_STARTING: Final = (State.SPAWN, State.BOOT, State.IMPORT)
_log = logging.getLogger(__name__)

NewSandbox = Callable[[Isolation, Callable[[Sandbox], None]], Sandbox]


class Lease(NamedTuple):
    """A place in a sandbox, taken under the call's name."""

    sandbox: Sandbox
    ending: asyncio.Future[Ending]
    cold: bool
    """The call had to wait until a sandbox was started."""


class _Waiter(NamedTuple):
    name: str
    lease: asyncio.Future[Lease]


@final
class Pool:
    """Hands out places; hears from its sandboxes when they are free again or gone."""

    def __init__(
        self,
        skill: RunnableSkill,
        *,
        launch: Launcher,
        new_sandbox: NewSandbox,
        spawn: Spawn,
        on_warning: Callable[[str], None],
    ) -> None:
        self._skill = skill
        self._isolation = skill.isolation
        self._launch = launch
        self._new_sandbox = new_sandbox
        self._spawn = spawn
        self._on_warning = on_warning
        self._sandboxes: list[Sandbox] = []
        self._line: deque[_Waiter] = deque()
        self._leases = 0
        self._failures = 0
        self._failure: SwarmError | None = None
        self._retry_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._is_retiring = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    @property
    def running(self) -> int:
        return sum(sandbox.calls_running for sandbox in self._sandboxes)

    async def lease(self, name: str) -> Lease:
        """Waits in line; `Overloaded` when the line is full, or why no sandbox starts."""
        assert not self._is_retiring, "the executor stopped asking before it retired the pool"
        self._stay_awake()
        if self._failure is not None and self._loop.time() < self._retry_at:
            raise _again(self._failure)
        free = None if self._line else self._free_sandbox()
        if free is not None:
            return self._take(free, name, cold=False)
        if len(self._line) >= self._skill.queue + self._skill.concurrency - self.running:
            raise Overloaded(
                f"{self._skill.name} is busy: {self.running} calls run, {len(self._line)} wait.",
                data={"running": self.running, "waiting": len(self._line)},
            )
        waiter = _Waiter(name, self._loop.create_future())
        self._line.append(waiter)
        self._is_empty.clear()
        self._staff()
        try:
            return await waiter.lease
        except asyncio.CancelledError:
            if waiter in self._line:
                self._line.remove(waiter)
                self._settle_down()
            elif not waiter.lease.cancelled() and waiter.lease.exception() is None:
                waiter.lease.result().sandbox.withdraw(name)
            raise

    def retire(self) -> None:
        """Calls that run or wait are finished; then every sandbox is closed."""
        self._is_retiring = True
        self._settle_down()

    async def close(self) -> None:
        """Ends everything now; returns when all sandboxes are gone."""
        self._is_retiring = True
        self._fail_line(RunCancelled("The node is stopping."))
        doomed = list(self._sandboxes)
        for sandbox in doomed:
            sandbox.destroy()
        for sandbox in doomed:
            await sandbox.wait_gone()
        self._settle_down()

    async def wait_empty(self) -> None:
        """Returns when no sandbox is left and nobody waits."""
        await self._is_empty.wait()

    def _take(self, sandbox: Sandbox, name: str, *, cold: bool) -> Lease:
        ending = sandbox.reserve(name)
        self._leases += 1
        if self._is_used_up(sandbox):
            sandbox.retire()
        self._staff()
        return Lease(sandbox, ending, cold)

    def _is_used_up(self, sandbox: Sandbox) -> bool:
        match self._isolation:
            case Isolation.ONESHOT:
                return True
            case Isolation.WORKER:
                return sandbox.served >= WORKER_CALLS or sandbox.age_seconds >= WORKER_SECONDS
            case Isolation.FORK:
                return False

    def _free_sandbox(self) -> Sandbox | None:
        if self.running >= self._skill.concurrency:
            return None
        return next((sandbox for sandbox in self._sandboxes if sandbox.has_place), None)

    def _on_change(self, sandbox: Sandbox) -> None:
        if sandbox.is_stuck:
            self._failure = SkillBroken(
                f"{self._skill.name} is shut off: a process of it could not be killed."
            )
            self._retry_at = math.inf
        if sandbox.state is State.DEAD and sandbox in self._sandboxes:
            self._sandboxes.remove(sandbox)
            if sandbox.went_astray:
                # The next one would, too: without somebody who needs it, none is started.
                self._leases = 0
            if not sandbox.has_been_ready:
                # Whoever started it knows why, and what that means for those in line.
                self._settle_down()
                return
        while self._line and (free := self._free_sandbox()) is not None:
            waiter = self._line.popleft()
            if not waiter.lease.done():
                waiter.lease.set_result(self._take(free, waiter.name, cold=free.served == 0))
        self._staff()
        self._settle_down()

    def _staff(self) -> None:
        """Starts as many sandboxes as the line needs, and the spare."""
        if self._failure is not None and self._loop.time() < self._retry_at:
            if not self._sandboxes:
                self._fail_line(self._failure)
            return
        starting = sum(sandbox.state in _STARTING for sandbox in self._sandboxes)
        if self._isolation is Isolation.WORKER:
            serving = sum(sandbox.state in (State.READY, State.BUSY) for sandbox in self._sandboxes)
            missing = 1 if self._line and not serving + starting else 0
        else:
            ready = sum(sandbox.state is State.READY for sandbox in self._sandboxes)
            needed = min(len(self._line), self._skill.concurrency - self.running)
            spares = SPARES if self._leases > 1 and not self._is_retiring else 0
            room = self._skill.concurrency + SPARES - len(self._sandboxes)
            missing = min(needed + spares - ready - starting, room)
        for _ in range(missing):
            sandbox = self._new_sandbox(self._isolation, self._on_change)
            self._sandboxes.append(sandbox)
            self._is_empty.clear()
            self._spawn(self._start(sandbox))

    async def _start(self, sandbox: Sandbox) -> None:
        try:
            await sandbox.start(self._launch)
        except NeedsWorker as reason:
            if self._isolation is Isolation.FORK:
                self._isolation = Isolation.WORKER
                self._on_warning(f"{reason} It runs with isolation = worker.")
            self._staff()
        except SwarmError as error:
            self._fail(error)
        except OSError as error:
            self._fail(SandboxUnavailable(f"The sandbox did not start: {error}."))
        else:
            self._failures = 0
            self._failure = None

    def _fail(self, error: SwarmError) -> None:
        if self._is_retiring and not self._line:
            return
        wait = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
        self._failures += 1
        self._failure = error
        self._retry_at = self._loop.time() + wait
        _log.warning("%s does not start: %s", self._skill.name, error.sentence)
        if not any(s.state in (State.READY, State.BUSY) for s in self._sandboxes):
            self._fail_line(error)
        self._settle_down()

    def _fail_line(self, error: SwarmError) -> None:
        line, self._line = self._line, deque()
        for waiter in line:
            if not waiter.lease.done():
                waiter.lease.set_exception(_again(error))
        self._settle_down()

    def _stay_awake(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _settle_down(self) -> None:
        if self._line or self.running:
            return
        if self._is_retiring:
            self._retire_all()
        elif self._sandboxes and self._idle_timer is None:
            self._idle_timer = self._loop.call_later(IDLE_SECONDS, self._retire_all)
        if not self._sandboxes:
            self._stay_awake()
            self._is_empty.set()

    def _retire_all(self) -> None:
        self._stay_awake()
        self._leases = 0
        for sandbox in list(self._sandboxes):
            if sandbox.state in _STARTING:
                sandbox.destroy()
            else:
                sandbox.retire()


def _again(error: SwarmError) -> SwarmError:
    """A fresh exception for each who hears it: one instance would gather all their tracebacks."""
    return from_record(error.record(), remote=False)
