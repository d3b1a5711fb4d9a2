"""The catalogue is the set of skills of one node: what is served, and why the rest is not.

Theory of operation. Each folder has an *outcome* (loaded, failed, blocked, skipped) and, apart
from it, the last version that loaded. A folder whose newest version fails keeps serving the
last good one (`reload_failed`). Names are given away in folder order: the first folder that can
serve a name has it, a later one is shown with its reason and takes over when the first goes.

The catalogue only decides. Whoever drives it asks `changes` after every outcome, carries the
changes out one by one and confirms each, so that what `published` holds is what is true outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Generic, Protocol, TypeVar, final

import msgspec


class SkillState(StrEnum):
    """What people see beside a skill's name."""

    SERVING = "serving"
    BROKEN = "broken"
    BLOCKED = "blocked"
    RELOAD_FAILED = "reload_failed"
    """The newest version does not load; the one before goes on serving."""
    SKIPPED = "skipped"
    """Not a skill that can be called, and why it looked like one."""


class Servable(Protocol):
    """What the catalogue must know of a loaded skill."""

    @property
    def name(self) -> str: ...

    @property
    def generation(self) -> bytes: ...


S = TypeVar("S", bound=Servable)


@final
class Entry(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """One folder's line in `swarm skills`. `served` is what answers calls, if anything does."""

    folder: str
    name: str
    state: SkillState
    reason: str = ""
    served: S | None = None


@final
class Publish(msgspec.Struct, Generic[S], frozen=True):
    """Serve this, in place of whatever had its name."""

    skill: S


@final
class Withdraw(msgspec.Struct, frozen=True):
    """Stop serving this name; calls in flight may end."""

    name: str


class _Outcome(msgspec.Struct, frozen=True):
    state: SkillState
    name: str
    reason: str


class Catalogue(Generic[S]):
    """Folders by path; their order is the order in which they were scanned."""

    def __init__(self) -> None:
        self._order: list[str] = []
        self._outcomes: dict[str, _Outcome] = {}
        self._good: dict[str, S] = {}
        self._published: dict[str, S] = {}

    def arrange(self, folders: Sequence[str]) -> None:
        """The folders that exist now, in order; what is not among them is forgotten."""
        self._order = list(folders)
        present = set(folders)
        for known in [key for key in self._outcomes if key not in present]:
            del self._outcomes[known]
            self._good.pop(known, None)

    def loaded(self, folder: str, skill: S) -> None:
        """A version that can be served."""
        self._outcomes[folder] = _Outcome(SkillState.SERVING, skill.name, "")
        self._good[folder] = skill

    def failed(self, folder: str, name: str, reason: str, *, blocked: bool = False) -> None:
        """A version that cannot; the one before stays."""
        state = SkillState.BLOCKED if blocked else SkillState.BROKEN
        self._outcomes[folder] = _Outcome(state, name, reason)

    def skipped(self, folder: str, name: str, reason: str) -> None:
        """Not a skill any more, or never was."""
        self._outcomes[folder] = _Outcome(SkillState.SKIPPED, name, reason)
        self._good.pop(folder, None)

    def changes(self) -> list[Publish[S] | Withdraw]:
        """What must happen outside, withdrawals first. Empty once all is confirmed."""
        winners = {skill.name: skill for skill in self._winners().values()}
        withdrawals: list[Publish[S] | Withdraw] = [
            Withdraw(name) for name in self._published if name not in winners
        ]
        return withdrawals + [
            Publish(skill)
            for name, skill in winners.items()
            if name not in self._published or self._published[name].generation != skill.generation
        ]

    def confirm(self, change: Publish[S] | Withdraw) -> None:
        """The change is true outside."""
        if isinstance(change, Publish):
            self._published[change.skill.name] = change.skill
        else:
            self._published.pop(change.name, None)

    def refused(self, skill: S, reason: str) -> None:
        """This version could not be published after all; the folder's published one stays."""
        before = self._published.get(skill.name)
        others = [good for good in self._good.values() if good is not skill]
        for folder, good in list(self._good.items()):
            if good is not skill:
                continue
            self.failed(folder, skill.name, reason)
            if before is None or any(before is other for other in others):
                del self._good[folder]
            else:
                self._good[folder] = before

    def published(self) -> dict[str, S]:
        """What answers calls, by name."""
        return dict(self._published)

    def serving(self, name: str) -> S | None:
        """What answers calls of this name."""
        return self._published.get(name)

    def live(self) -> list[S]:
        """Versions that are published or could be, should an earlier folder go."""
        return [*self._good.values(), *self._published.values()]

    def entries(self) -> list[Entry[S]]:
        """Every folder that has been looked into, in order."""
        winners = self._winners()
        return [
            self._entry(folder, self._outcomes[folder], winners)
            for folder in self._order
            if folder in self._outcomes
        ]

    def _winners(self) -> dict[str, S]:
        """By folder."""
        taken: set[str] = set()
        winners: dict[str, S] = {}
        for folder in self._order:
            skill = self._good.get(folder)
            if skill is not None and skill.name not in taken:
                taken.add(skill.name)
                winners[folder] = skill
        return winners

    def _entry(self, folder: str, outcome: _Outcome, winners: dict[str, S]) -> Entry[S]:
        served = winners.get(folder)
        state, reason = outcome.state, outcome.reason
        if state in {SkillState.BROKEN, SkillState.BLOCKED} and served is not None:
            state = SkillState.RELOAD_FAILED
        elif state is SkillState.SERVING and served is None:
            first = next(f for f, skill in winners.items() if skill.name == outcome.name)
            state, reason = SkillState.BROKEN, f"the name is taken by the folder {first}"
        name = outcome.name if served is None else served.name
        return Entry(folder=folder, name=name, state=state, reason=reason, served=served)
