"""Skill folders written by tests, and a launcher that confines nothing, for speed and for blame.

With it the engine alone is under test: what the sandbox prevents is left undone here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from textwrap import dedent

from swarmharness.skills.call import CallerClass, CallEvent, JsonBytes, SkillCall
from swarmharness.skills.egress_log import EgressLog
from swarmharness.skills.sandbox.confinement import SCRATCH_TARGET, Confinement
from swarmharness.skills.sandbox.executor import SandboxExecutor
from swarmharness.skills.sandbox.process import SandboxProcess
from swarmharness.skills.sandbox.runnable import RunnableSkill
from swarmharness.skills.sandbox.tiers import Tier

MODELS = """
from harnessapi.models import SkillInput, SkillOutput

class Input(SkillInput):
    text: str = ""
    n: int = 0

class Output(SkillOutput):
    text: str
"""


class StoppedClock:
    def now_us(self) -> int:
        return 0

    def wall_ms(self) -> int:
        return 0


async def launch_plain(
    confinement: Confinement, *, argv: Sequence[str], pass_fds: Sequence[int]
) -> SandboxProcess:
    """The same interpreter and paths, without a sandbox around them."""
    scratch = tempfile.TemporaryDirectory(prefix="engine-test-")
    paths: Mapping[str, str] = {
        **{mount.target: mount.source for mount in confinement.mounts},
        SCRATCH_TARGET: scratch.name,
    }

    def inside(target: str) -> str:
        for known, visible in paths.items():
            if target == known or target.startswith(known + "/"):
                return visible + target[len(known) :]
        return target

    outer = subprocess.Popen(
        [inside(argument) for argument in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "MALLOC_ARENA_MAX": "2", **confinement.environment},
        pass_fds=tuple(pass_fds),
        start_new_session=True,
        bufsize=0,
    )

    def at_end() -> None:
        with suppress(ProcessLookupError):
            os.killpg(outer.pid, signal.SIGKILL)
        scratch.cleanup()

    return SandboxProcess(
        outer, tier=Tier.LANDLOCK_ONLY, uid=os.getuid(), paths=paths, at_end=at_end
    )


def write_skill(folder: Path, handler: str, models: str = MODELS) -> Path:
    folder.mkdir(parents=True)
    (folder / "handler.py").write_text("from .models import Input, Output\n" + dedent(handler))
    (folder / "models.py").write_text(models)
    return folder


def runnable(folder: Path, **overrides: object) -> RunnableSkill:
    values: dict[str, object] = {
        "name": folder.name,
        "folder": folder,
        "mount": f"/app/skills/{folder.name}",
        "digest": bytes(32),
        **overrides,
    }
    return RunnableSkill(**values)  # type: ignore[arg-type]


@asynccontextmanager
async def executor_of(*skills: RunnableSkill) -> AsyncIterator[SandboxExecutor]:
    executor = SandboxExecutor(launch_plain, egress_log=EgressLog(StoppedClock()), confined=False)
    try:
        for skill in skills:
            await executor.add(skill)
        yield executor
    finally:
        await executor.close(drain_ms=0)


def call_of(
    skill: str,
    content: bytes = b"{}",
    *,
    deadline_ms: int = 30_000,
    caller: CallerClass = CallerClass.OWNER,
) -> SkillCall:
    return SkillCall(
        call_id="task-1",
        skill=skill,
        input=JsonBytes(content),
        deadline_ms=deadline_ms,
        caller=caller,
    )


async def events_of(executor: SandboxExecutor, call: SkillCall) -> list[CallEvent]:
    return [event async for event in executor.run(call)]
