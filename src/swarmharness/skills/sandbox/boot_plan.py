"""A boot plan is what one sandbox is launched with, and what it is told first."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

import msgspec

from swarmharness.skills.call import CallerClass
from swarmharness.skills.sandbox import mounts
from swarmharness.skills.sandbox.confinement import (
    DATA_BYTES,
    MIB,
    SCRATCH_TARGET,
    TOTAL_BYTES,
    Confinement,
    Mount,
)
from swarmharness.skills.sandbox.runnable import Isolation, RunnableSkill

ENVIRONMENT_TARGET: Final = "/opt/env"
CPU_GRACE_SECONDS: Final = 1  # the wall limit should speak first: its error says more


class BootMode(StrEnum):
    """What the guest does once it has imported the skill."""

    FORK = "fork"
    WORKER = "worker"
    DESCRIBE = "describe"


def boot_mode(isolation: Isolation) -> BootMode:
    """A oneshot sandbox is a worker that gets a single call."""
    return BootMode.FORK if isolation is Isolation.FORK else BootMode.WORKER


def confinement_of(skill: RunnableSkill, mode: BootMode, caller: CallerClass) -> Confinement:
    """What the skill may see, write and use."""
    resources = skill.resources
    beside = PurePosixPath(skill.mount).parent
    own = [Mount(str(skill.folder), skill.mount)]
    own += [Mount(str(path), str(beside / path.name)) for path in skill.support]
    if skill.environment_path is not None:
        own.append(Mount(str(skill.environment_path), ENVIRONMENT_TARGET))
    memory = resources.memory_mb * MIB
    wall_seconds = skill.timeout_ms / 1000
    cpu_seconds = math.ceil(wall_seconds * resources.cpu_milli / 1000) + CPU_GRACE_SECONDS
    return Confinement(
        mounts=(*mounts.base_mounts(), *own),
        environment=dict(skill.env),
        scratch_bytes=resources.disk_mb * MIB,
        fsize=resources.disk_mb * MIB,
        cpu_seconds=cpu_seconds if mode is BootMode.FORK else None,
        data_bytes=memory if memory > TOTAL_BYTES else DATA_BYTES,
        low_priority=caller is not CallerClass.OWNER,
    )


def first_orders(
    skill: RunnableSkill, mode: BootMode, *, inside: Callable[[str], str], confined: bool
) -> bytes:
    """JSON for the guest's bootstrap; `inside` gives the guest's name of a mount target."""
    has_environment = skill.environment_path is not None
    return msgspec.json.encode(
        {
            "mode": mode,
            "folder": inside(skill.mount),
            "scratch": inside(SCRATCH_TARGET),
            "site": [inside(target) for target in mounts.site_targets()],
            "environment_path": [inside(ENVIRONMENT_TARGET)] if has_environment else [],
            "listener": bool(skill.network_allow) and mode is not BootMode.DESCRIBE,
            "confined": confined,
            "exclusive": skill.concurrency == 1 or skill.isolation is Isolation.ONESHOT,
        }
    )
