"""The library is the set of skills that one node serves, kept in step with its directories.

Theory of operation. One task looks at the directories about once a second. The reload core says
which folders are due, the preparer turns each into a skill or a reason, the catalogue decides
who has which name, and two callbacks make its decisions true outside: `publish` (serve this, in
place of whatever had the name) and `withdraw`. Each folder fails alone.

Callbacks are awaited one at a time and may raise a `SwarmError`, which becomes the folder's
reason. A replaced version may still be running calls, so its snapshot and its packages are
kept until the longest of them must have ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import final

import msgspec

from swarmharness.kernel.clock import Clock
from swarmharness.kernel.errors import Blame, SwarmError
from swarmharness.kernel.printable import printable_line
from swarmharness.skills.catalogue import Catalogue, Entry, Publish, SkillState, Withdraw
from swarmharness.skills.digest import Digest
from swarmharness.skills.errors import (
    EnvironmentFailed,
    SandboxLost,
    SandboxUnavailable,
    SkillBlocked,
    SkillBroken,
    UnknownSkill,
)
from swarmharness.skills.folder import FolderKind
from swarmharness.skills.io.discovery import FoundFolder, scan
from swarmharness.skills.io.preparation import Prepared, Preparer
from swarmharness.skills.io.snapshot import SnapshotStore
from swarmharness.skills.reload import LOOK_INTERVAL_US, ReloadCore
from swarmharness.skills.served import ServedSkill

PARALLEL_PREPARATIONS = 4  # describe steps at once; each is a sandbox with its own interpreter
RETIRE_GRACE_US = 30_000_000  # beyond the skill's own time limit: draining, killing, reaping

PublishSkill = Callable[[Prepared], Awaitable[None]]
WithdrawSkill = Callable[[str], Awaitable[None]]

_log = logging.getLogger(__name__)


@final
class SkillLibrary:
    """Start it once; look at `entries` whenever somebody asks."""

    def __init__(
        self,
        directories: Sequence[Path],
        *,
        snapshots: SnapshotStore,
        preparer: Preparer,
        publish: PublishSkill,
        withdraw: WithdrawSkill,
        clock: Clock,
    ) -> None:
        self._directories = [directory.resolve() for directory in directories]
        self._snapshots = snapshots
        self._preparer = preparer
        self._publish = publish
        self._withdraw = withdraw
        self._clock = clock
        self._reload = ReloadCore()
        self._catalogue: Catalogue[Prepared] = Catalogue()
        self._applying = asyncio.Lock()
        self._places = asyncio.Semaphore(PARALLEL_PREPARATIONS)
        self._held: list[Prepared] = []
        self._retired: list[tuple[int, Prepared]] = []
        self._watcher: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self.problems: tuple[str, ...] = ()
        """Sentences about skills directories that cannot be read."""

    async def start(self) -> None:
        """Returns at once; `wait_ready` waits until every folder has been looked into."""
        assert self._watcher is None, "a library starts once"
        await asyncio.to_thread(self._snapshots.open)
        self._watcher = asyncio.create_task(self._watch(), name="skill library")

    async def wait_ready(self) -> None:
        """After the first look: each folder has its state."""
        assert self._watcher is not None, "start comes first"
        await self._looked.wait()

    async def close(self) -> None:
        """Stops looking. What is published stays so: whoever runs it ends it."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
            self._looked.set()
        for prepared in [*self._held, *(old for _, old in self._retired)]:
            _release(prepared)
        self._held, self._retired = [], []

    def entries(self) -> list[Entry[Prepared]]:
        """Every folder with its state and reason, in scan order.

        Names and reasons may hold words of whoever wrote the folder.
        """
        return [
            msgspec.structs.replace(
                entry, name=printable_line(entry.name), reason=printable_line(entry.reason)
            )
            for entry in self._catalogue.entries()
        ]

    def skills(self) -> dict[str, ServedSkill]:
        """What is served now, by name."""
        return {name: p.skill for name, p in self._catalogue.published().items()}

    def find(self, name: str) -> ServedSkill:
        """`UnknownSkill`, or `SkillBroken` and `SkillBlocked` with the folder's reason."""
        found = self._catalogue.serving(name)
        if found is not None:
            return found.skill
        for entry in self.entries():
            if entry.name != name:
                continue
            if entry.state is SkillState.BLOCKED:
                raise SkillBlocked(f"Skill “{name}” is not served: it {entry.reason}.")
            raise SkillBroken(f"Skill “{name}” is not served: {entry.reason or 'loading'}.")
        raise UnknownSkill(f"There is no skill “{name}” on this node.")

    async def look(self) -> int:
        """One look at the directories; returns the microseconds until the next."""
        found, problems = await asyncio.to_thread(scan, self._directories)
        self.problems = tuple(problems)
        by_key = {str(folder.path): folder for folder in found}
        self._catalogue.arrange(list(by_key))
        signatures = {key: folder.signature for key, folder in by_key.items()}
        due, _ = self._reload.look(signatures, self._clock.now_us())
        await self._apply()
        async with asyncio.TaskGroup() as group:
            for key in due:
                group.create_task(self._load(by_key[key]))
        await self._retire(collect=bool(due))
        now_us = self._clock.now_us()
        return self._reload.next_look_us(now_us) - now_us

    async def _watch(self) -> None:
        while True:
            try:
                wait_us = await self.look()
            except Exception as error:  # noqa: BLE001  what is served goes on; people see this
                _log.exception("looking at the skills directories")
                self.problems = (f"Looking at the skills failed: {error!r}.",)
                wait_us = LOOK_INTERVAL_US
            self._looked.set()
            await asyncio.sleep(wait_us / 1_000_000)

    async def _load(self, found: FoundFolder) -> None:
        key, name = str(found.path), found.path.name
        if found.kind is FolderKind.INSTRUCTIONS:
            reason = "SKILL.md without handler.py and models.py: text for agents, nothing to run"
            self._catalogue.skipped(key, name, reason)
            await self._apply()
            return
        if found.kind is FolderKind.INCOMPLETE:
            self._refuse(key, name, "handler.py without models.py: a skill has both")
            await self._apply()
            return
        try:
            async with self._places:
                prepared = await self._preparer.prepare(found)
        except SkillBlocked as error:
            self._refuse(key, name, error.sentence, blocked=True)
        except (SwarmError, OSError) as error:
            reason = error.sentence if isinstance(error, SwarmError) else str(error)
            self._refuse(key, name, reason)
            if _may_pass(error):
                self._reload.failed_here(key, self._clock.now_us())
        except Exception as error:  # noqa: BLE001  a fault of ours costs one skill, not the rest
            _log.exception("preparing the skill folder %s", key)
            self._refuse(key, name, f"internal fault: {type(error).__name__}: {error}")
        else:
            self._held.append(prepared)
            self._catalogue.loaded(key, prepared)
        await self._apply()

    def _refuse(self, key: str, name: str, reason: str, *, blocked: bool = False) -> None:
        shown = printable_line(f"skill folder {key} is not served: {reason}")
        _log.warning("%s", shown)
        self._catalogue.failed(key, name, reason, blocked=blocked)

    async def _apply(self) -> None:
        """Makes the catalogue's decisions true, one at a time, until there are none left."""
        async with self._applying:
            while changes := self._catalogue.changes():
                await self._carry_out(changes[0])

    async def _carry_out(self, change: Publish[Prepared] | Withdraw) -> None:
        if isinstance(change, Withdraw):
            try:
                await self._withdraw(change.name)
            except SwarmError as error:
                _log.warning("withdrawing %s: %s", change.name, error.sentence)
            self._catalogue.confirm(change)
            return
        try:
            await self._publish(change.skill)
        except SwarmError as error:
            self._catalogue.refused(change.skill, error.sentence)
        else:
            self._catalogue.confirm(change)

    async def _retire(self, *, collect: bool) -> None:
        """Lets go of versions that nothing can still be running."""
        now_us = self._clock.now_us()
        live = self._catalogue.live()
        for prepared in [p for p in self._held if not any(p is one for one in live)]:
            self._held.remove(prepared)
            until_us = now_us + prepared.skill.terms.timeout_ms * 1000 + RETIRE_GRACE_US
            self._retired.append((until_us, prepared))
        for until_us, prepared in list(self._retired):
            if now_us >= until_us:
                self._retired.remove((until_us, prepared))
                _release(prepared)
                collect = True
        if collect:
            await asyncio.to_thread(self._snapshots.collect, self._digests_in_use())

    def _digests_in_use(self) -> set[Digest]:
        kept = [*self._held, *(prepared for _, prepared in self._retired)]
        return {
            digest
            for prepared in kept
            for digest in (prepared.skill.digests.content, prepared.skill.digests.support)
        }


def _may_pass(error: SwarmError | OSError) -> bool:
    """Whether the machine was the reason, so that trying again makes sense."""
    if isinstance(error, OSError | SandboxUnavailable | SandboxLost | EnvironmentFailed):
        return True
    return error.blame is Blame.WORLD


def _release(prepared: Prepared) -> None:
    if prepared.lease is not None:
        prepared.lease.close()
