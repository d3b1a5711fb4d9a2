"""The environment cache keeps the packages that skills asked for, each set in its own directory.

Theory of operation. An environment is built once per plan, then only read. It appears under its
final name by one rename, after everything in it is on disk; until then it is a temporary
directory that nobody uses. So a crash leaves either a whole environment or rubbish, and the
rubbish of a dead builder is recognised by its lock being free.

    <cache>/<key>/site               the packages; mounted read-only into sandboxes
    <cache>/<key>/environment.json   what is in there; its time stamp is the last use
    <cache>/<key>.lock               exclusive to build or evict, shared to use
    <cache>/.temporary-<key>-*       being built, or being removed

Several nodes may share one cache directory. Every environment in use is held by a shared lock,
which is what keeps the evictor of another node away from it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, final

import msgspec

from swarmharness.kernel.clock import Clock
from swarmharness.skills.environment_plan import (
    EnvironmentPlan,
    choose_evictions,
    plan_environment,
)
from swarmharness.skills.errors import EnvironmentFailed
from swarmharness.skills.sandbox.confinement import MIB
from swarmharness.skills.sandbox.environment_lock import EnvironmentLock
from swarmharness.skills.sandbox.installer import (
    SITE,
    Installer,
    InstallerSettings,
    InstallLimits,
    distributions,
    measure,
    read_settings,
    this_interpreter,
)
from swarmharness.skills.sandbox.tiers import Tier

COUNT_LIMIT = 32  # environments kept; more than anybody's skills use at once
BYTES_LIMIT = 8 * 1024 * MIB  # on disk, of all environments together
WAIT_SECONDS = 900.0  # for another node that builds the same; longer than a build may take

_TEMPORARY = ".temporary-"
_CONTENTS = "environment.json"


@final
class Contents(msgspec.Struct, frozen=True):
    """What a finished environment says of itself."""

    requirements: tuple[str, ...]
    distributions: tuple[str, ...]
    bytes: int


@final
class Environment:
    """A finished environment that stays until `close`: one holder per mounting sandbox or skill."""

    def __init__(self, key: str, path: Path, contents: Contents, lock: EnvironmentLock) -> None:
        self.key = key
        self.path = path
        """The directory to mount and to put on `sys.path`."""
        self.distributions = contents.distributions
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """From here on it may be evicted."""
        self._lock.release()


@final
class EnvironmentCache:
    """All environments of one cache directory."""

    def __init__(
        self,
        directory: Path,
        *,
        tier: Tier,
        clock: Clock,
        package_hosts: Iterable[str] = (),
        limits: InstallLimits | None = None,
        count_limit: int = COUNT_LIMIT,
        bytes_limit: int = BYTES_LIMIT,
        settings: Callable[[], Awaitable[InstallerSettings]] = read_settings,
    ) -> None:
        """`package_hosts`: rules for hosts that the operator's index sends downloads to."""
        self._directory = directory
        self._tier = tier
        self._clock = clock
        self._package_hosts = tuple(package_hosts)
        self._limits = limits or InstallLimits()
        self._count_limit = count_limit
        self._bytes_limit = bytes_limit
        self._settings = settings
        # Private, because a building sandbox of a root node needs a directory open to its user.
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)

    async def clean(self) -> None:
        """At the node's start: remove what a crash left behind."""
        for path in list(self._directory.glob(f"{_TEMPORARY}*")):
            key = path.name.removeprefix(_TEMPORARY).partition("-")[0]
            lock = EnvironmentLock.try_take(self._lock_path(key), exclusive=True)
            if lock is not None:
                try:
                    await asyncio.to_thread(_remove_tree, path)
                finally:
                    lock.release()

    async def acquire(self, requirements: Iterable[str]) -> Environment:
        """The environment of the *granted* requirements, built if it is not there yet."""
        plan = plan_environment(requirements, this_interpreter())
        try:
            async with asyncio.timeout(WAIT_SECONDS) as waiting:
                while True:
                    found = self._open(plan, await self._lock(plan, exclusive=False))
                    if found is not None:
                        return found
                    lock = await self._lock(plan, exclusive=True)
                    waiting.reschedule(None)  # a build has a limit of its own
                    await self._build_under(plan, lock)
                    waiting.reschedule(asyncio.get_running_loop().time() + WAIT_SECONDS)
        except TimeoutError:
            raise EnvironmentFailed(
                f"Another node has been building the same packages for {WAIT_SECONDS:.0f} s.",
                hint="Look for a hanging `swarm` process that uses the same cache directory.",
            ) from None

    async def _lock(self, plan: EnvironmentPlan, *, exclusive: bool) -> EnvironmentLock:
        return await EnvironmentLock.take(self._lock_path(plan.key), exclusive=exclusive)

    def _lock_path(self, key: str) -> Path:
        return self._directory / f"{key}.lock"

    def _open(self, plan: EnvironmentPlan, lock: EnvironmentLock) -> Environment | None:
        home = self._directory / plan.key
        contents = _read_contents(home)
        if contents is None:
            lock.release()
            return None
        os.utime(home / _CONTENTS)
        return Environment(plan.key, home / SITE, contents, lock)

    async def _build_under(self, plan: EnvironmentPlan, lock: EnvironmentLock) -> None:
        home = self._directory / plan.key
        try:
            if _read_contents(home) is None:
                if home.exists():
                    await self._remove(home, plan.key)
                await self._build(plan, home)
        finally:
            lock.release()
        await self._evict(keep=plan.key)

    async def _build(self, plan: EnvironmentPlan, home: Path) -> None:
        temporary = self._temporary(plan.key)
        work = temporary / "work"
        try:
            temporary.mkdir()
            work.mkdir()
            # Only a root node's sandbox runs as another user; the cache directory hides this.
            work.chmod(0o1777 if os.geteuid() == 0 else 0o700)
            installer = Installer(
                tier=self._tier,
                clock=self._clock,
                limits=self._limits,
                settings=await self._settings(),
                extra_rules=self._package_hosts,
            )
            await installer.install(plan, work)
            await asyncio.to_thread(self._finish, plan, temporary, work)
            temporary.chmod(0o755)
            temporary.rename(home)
        finally:
            await asyncio.to_thread(_remove_tree, temporary)

    def _finish(self, plan: EnvironmentPlan, temporary: Path, work: Path) -> None:
        """The packages move out of the directory that the sandbox could write."""
        site = temporary / SITE
        (work / SITE).rename(site)
        _remove_tree(work)
        contents = Contents(
            requirements=plan.requirements,
            distributions=tuple(distributions(site)),
            bytes=measure(site, self._limits)[0],
        )
        (temporary / _CONTENTS).write_bytes(msgspec.json.encode(contents))
        os.sync()  # a rename may reach the disk before the contents of thousands of files

    async def _evict(self, keep: str) -> None:
        victims = choose_evictions(
            self._uses(), count_limit=self._count_limit, bytes_limit=self._bytes_limit
        )
        for key in victims:
            lock = None
            if key != keep:
                lock = EnvironmentLock.try_take(self._lock_path(key), exclusive=True)
            if lock is not None:  # else it is in use, and stays over the limit until it is not
                try:
                    await self._remove(self._directory / key, key)
                finally:
                    lock.release()

    def _uses(self) -> list[tuple[int, str, int]]:
        uses = []
        for stamp in self._directory.glob(f"*/{_CONTENTS}"):
            contents = _read_contents(stamp.parent)
            if contents is not None and not stamp.parent.name.startswith(_TEMPORARY):
                uses.append((stamp.stat().st_mtime_ns, stamp.parent.name, contents.bytes))
        return uses

    async def _remove(self, home: Path, key: str) -> None:
        await asyncio.to_thread(_retire, home, self._temporary(key))

    def _temporary(self, key: str) -> Path:
        return self._directory / f"{_TEMPORARY}{key}-{secrets.token_hex(4)}"


def _read_contents(home: Path) -> Contents | None:
    """None for what is missing or damaged: both are built anew."""
    try:
        return msgspec.json.decode((home / _CONTENTS).read_bytes(), type=Contents)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def _retire(home: Path, temporary: Path) -> None:
    """Renamed first, so that a crash in the middle never leaves half an environment."""
    home.rename(temporary)
    _remove_tree(temporary)


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
