"""The installed environment is what all skills of this node see: interpreter, distributions."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Protocol, final

import msgspec

_RUNS = re.compile(r"[-_.]+")


@final
class InstalledEnvironment(msgspec.Struct, frozen=True):
    """`distributions` are `name==version`, names in their normal form."""

    interpreter: str
    distributions: tuple[str, ...]


class EnvironmentLease(Protocol):
    """An environment with a skill's own requirements, kept from being cleaned away until closed."""

    @property
    def path(self) -> Path: ...

    @property
    def distributions(self) -> tuple[str, ...]: ...

    def close(self) -> None: ...


class EnvironmentSource(Protocol):
    """Whoever installs requirements, in a sandbox, and keeps the result."""

    async def acquire(self, requirements: tuple[str, ...]) -> EnvironmentLease: ...


def installed_environment() -> InstalledEnvironment:
    """This interpreter's own: what a skill without requirements sees."""
    found = {
        f"{_RUNS.sub('-', name).lower()}=={distribution.version}"
        for distribution in importlib.metadata.distributions()
        if (name := distribution.metadata["Name"])
    }
    interpreter = f"{platform.python_implementation()} {platform.python_version()}"
    return InstalledEnvironment(interpreter, tuple(sorted(found)))
