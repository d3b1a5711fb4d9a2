"""The sandbox executor runs skill calls in sandboxes, and owns everything that this starts.

It knows the skills that it was given (`add`), keeps a pool for each and for each class of
callers, and turns one `SkillCall` into its events. Owner's and strangers' calls never share a
sandbox: the pools are apart.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Final, final

from swarmharness.kernel.printable import printable_line
from swarmharness.skills.call import CallerClass, CallEvent, SkillCall
from swarmharness.skills.egress_log import EgressLog
from swarmharness.skills.errors import (
    HandlerFailed,
    InputTooLarge,
    Overloaded,
    SandboxLost,
    SkillBroken,
    UnknownSkill,
)
from swarmharness.skills.network_policy import NetworkPolicy
from swarmharness.skills.sandbox.boot_plan import BootMode, boot_mode
from swarmharness.skills.sandbox.egress import EgressProxy
from swarmharness.skills.sandbox.pool import Lease, Pool
from swarmharness.skills.sandbox.runnable import Isolation, RunnableSkill
from swarmharness.skills.sandbox.sandbox import (
    BOOT_SECONDS,
    IMPORT_SECONDS,
    Launcher,
    Sandbox,
)
from swarmharness.skills.sandbox.session import Session, new_call_name

WALL_CEILING_MS: Final = 300_000  # an operator may lower a skill's limit, never lift this one
DESCRIBE_SECONDS: Final = BOOT_SECONDS + IMPORT_SECONDS + 10.0  # and to launch and to end it
TRACEBACK_CHARS: Final = 4000  # of the sandbox's last words: about forty frames
MAX_WARNINGS: Final = 100  # the newest; one line each in `swarm skills`
_log = logging.getLogger(__name__)


@final
class SandboxExecutor:
    """Implements `Executor`. Create it on the event loop that will use it, and `close` it."""

    def __init__(self, launch: Launcher, *, egress_log: EgressLog, confined: bool = True) -> None:
        self._launch = launch
        self._egress_log = egress_log
        self._confined = confined
        self._skills: dict[str, RunnableSkill] = {}
        self._pools: dict[tuple[str, CallerClass], Pool] = {}
        self._retired: set[Pool] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.warnings: deque[str] = deque(maxlen=MAX_WARNINGS)

    async def describe(self, skill: RunnableSkill) -> bytes:
        """The skill's description as JSON, made inside; `SkillBroken` when it cannot be loaded."""
        sandbox = self._new_sandbox(skill, BootMode.DESCRIBE, CallerClass.PUBLIC, _unheard)
        try:
            async with asyncio.timeout(DESCRIBE_SECONDS):
                await sandbox.start(self._launch)
                await sandbox.wait_gone()
        except TimeoutError:
            raise SkillBroken(
                f"Describing {skill.name} took longer than {DESCRIBE_SECONDS:.0f} s."
            ) from None
        return sandbox.description

    async def add(self, skill: RunnableSkill) -> None:
        """Calls from now on run this generation; those of an older one finish where they are."""
        await self.remove(skill.name, drain=True)
        self._skills[skill.name] = skill

    async def remove(self, name: str, *, drain: bool) -> None:
        """Without `drain`, running calls end as cancelled; with it they end in the background."""
        self._skills.pop(name, None)
        for key in [key for key in self._pools if key[0] == name]:
            pool = self._pools.pop(key)
            if drain:
                pool.retire()
                self._retired.add(pool)
                self._spawn(self._forget(pool))
            else:
                await pool.close()

    async def run(self, call: SkillCall) -> AsyncGenerator[CallEvent, None]:
        """Closing the iterator, or cancelling who waits in it, cancels the call."""
        skill = self._skills.get(call.skill)
        if skill is None:
            raise UnknownSkill(f"There is no skill “{call.skill}” here.")
        if len(call.input) > skill.max_input_bytes:
            raise InputTooLarge(
                f"The input has {len(call.input)} bytes; {skill.name} takes "
                f"{skill.max_input_bytes}."
            )
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        name = new_call_name()
        lease = await self._lease(skill, call, name)
        session = Session(
            lease.sandbox,
            name,
            lease.ending,
            call,
            wall_seconds=min(call.deadline_ms, skill.timeout_ms, WALL_CEILING_MS) / 1000,
            queue_ms=round((loop.time() - asked_at) * 1000),
            cold=lease.cold,
        )
        try:
            await session.open()
            while (event := await session.next_event()) is not None:
                yield event
        except (HandlerFailed, SandboxLost) as error:
            # Only the owner of this node sees what was written: other callers' words are among it.
            words = printable_line(lease.sandbox.last_words()[-TRACEBACK_CHARS:])
            _log.info("%s: %s %s", skill.name, error.code, words)
            raise
        finally:
            session.close()

    async def close(self, drain_ms: int) -> None:
        """Calls may finish within `drain_ms`; then everything ends. Nothing runs afterwards."""
        for name in list(self._skills):
            await self.remove(name, drain=True)
        try:
            async with asyncio.timeout(drain_ms / 1000):
                for pool in list(self._retired):
                    await pool.wait_empty()
        except TimeoutError:
            for pool in list(self._retired):
                await pool.close()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _lease(self, skill: RunnableSkill, call: SkillCall, name: str) -> Lease:
        key = (skill.name, call.caller)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = self._new_pool(skill, call.caller)
        try:
            async with asyncio.timeout(call.deadline_ms / 1000):
                return await pool.lease(name)
        except TimeoutError:
            raise Overloaded(
                f"No place for {skill.name} became free within {call.deadline_ms} ms."
            ) from None

    def _new_pool(self, skill: RunnableSkill, caller: CallerClass) -> Pool:
        def new_sandbox(isolation: Isolation, on_change: Callable[[Sandbox], None]) -> Sandbox:
            return self._new_sandbox(skill, boot_mode(isolation), caller, on_change)

        def warn(sentence: str) -> None:
            _log.warning(sentence)
            self.warnings.append(sentence)

        return Pool(
            skill,
            launch=self._launch,
            new_sandbox=new_sandbox,
            spawn=self._spawn,
            on_warning=warn,
        )

    def _new_sandbox(
        self,
        skill: RunnableSkill,
        mode: BootMode,
        caller: CallerClass,
        on_change: Callable[[Sandbox], None],
    ) -> Sandbox:
        shares = mode is BootMode.WORKER and skill.isolation is not Isolation.ONESHOT
        return Sandbox(
            skill,
            mode,
            caller,
            places=skill.concurrency if shares else 1,
            confined=self._confined,
            on_change=on_change,
            spawn=self._spawn,
            serve_network=self._serve_network,
        )

    async def _serve_network(self, skill: RunnableSkill, listener: socket.socket) -> None:
        policy = NetworkPolicy.parse(list(skill.network_allow))
        await EgressProxy(policy, self._egress_log).serve(listener)

    async def _forget(self, pool: Pool) -> None:
        await pool.wait_empty()
        self._retired.discard(pool)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _unheard(_sandbox: Sandbox) -> None:
    """A sandbox that only describes belongs to no pool."""
