"""A runnable skill is one generation of a skill folder together with what it is granted."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import final

import msgspec

MIB = 1024 * 1024


class Isolation(StrEnum):
    """How far calls of one skill are kept from each other."""

    FORK = "fork"
    """A fresh process per call, forked from one that has imported the skill."""
    WORKER = "worker"
    """One long-lived process: for costly imports and native threads."""
    ONESHOT = "oneshot"
    """A fresh sandbox per call."""


@final
class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What one call may use."""

    cpu_milli: int = 1000
    memory_mb: int = 1024
    disk_mb: int = 64


@final
class RunnableSkill(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the executor needs to know; paths are of this machine except `mount`."""

    name: str
    folder: Path
    """The skill folder, as it is to run: normally its read-only snapshot."""
    mount: str
    """Where the guest sees it: `/app/<skills directory>/<folder>`."""
    digest: bytes
    """The content that this generation stands for."""
    support: tuple[Path, ...] = ()
    """Shared modules beside the folder, shown beside `mount` under their own names."""
    isolation: Isolation = Isolation.FORK
    timeout_ms: int = 30_000
    concurrency: int = 1
    queue: int = 16
    resources: Resources = Resources()
    max_input_bytes: int = 4 * MIB
    max_output_bytes: int = 16 * MIB
    environment_path: Path | None = None
    """The skill's own packages, where it has any."""
    env: tuple[tuple[str, str], ...] = ()
    """Environment variables that the owner granted."""
    network_allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert isinstance(self.isolation, Isolation), "a plain string would pass for no mode at all"
        assert self.concurrency >= 1, f"{self.name} has no place for any call"
