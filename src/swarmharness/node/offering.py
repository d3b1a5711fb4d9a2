"""The offering is what this node tells its peers it runs, kept up to date for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, final

import msgspec

from swarmharness.kernel.codec import encode
from swarmharness.kernel.errors import MalformedMessage
from swarmharness.kernel.printable import printable_line
from swarmharness.network.errors import LimitExceeded
from swarmharness.network.io.incoming_call import IncomingCall
from swarmharness.network.io.rpc_connection import RpcConnection
from swarmharness.skills.call import is_json
from swarmharness.skills.errors import UnknownSkill
from swarmharness.skills.messages import (
    OFFERS_LIMIT,
    SUMMARY_LIMIT,
    VERSION,
    OffersMessage,
    SkillOffer,
)
from swarmharness.skills.served import ServedSkill

VERSION_LIMIT = 64  # characters of a skill's version that peers are told


@final
class Offering:
    """Answers `skills.watch` and `skills.describe`; `changed` wakes every watcher."""

    def __init__(self, find: Callable[[str], ServedSkill], *, sandbox_tier: str) -> None:
        self._find = find
        self._tier = sandbox_tier
        self._skills: dict[str, SkillOffer] = {}
        self._change: asyncio.Event = asyncio.Event()
        self._is_open = True
        self._watchers: dict[RpcConnection, asyncio.Task[bytes]] = {}

    def add(self, skill: ServedSkill) -> None:
        """Offer this skill, or its new version."""
        if not skill.terms.publish:
            self.remove(skill.name)
            return
        self._skills[skill.name] = SkillOffer(
            name=skill.name,
            version=printable_line(skill.version)[:VERSION_LIMIT],
            replica=skill.digests.replica,
            summary=" ".join(skill.metadata.description.split())[:SUMMARY_LIMIT],
            kind=skill.description.kind,
            places=skill.terms.concurrency,
        )
        self._wake()

    def remove(self, name: str) -> None:
        """Offer it no longer."""
        if self._skills.pop(name, None) is not None:
            self._wake()

    def close(self) -> None:
        """Nothing is offered any more: whoever watches is told so by the end of the answer."""
        self._is_open = False
        self._wake()

    async def watch(self, incoming: IncomingCall) -> bytes:
        """The `skills.watch` method: ends when the watcher leaves or this node does.

        One per connection: each costs a call for as long as it lasts, and a second tells nothing
        new. The newer one stays, since a watcher that renews may be early.
        """
        if not incoming.is_streamed:
            raise MalformedMessage("A watch is a streamed call: its news would have no way back.")
        task = asyncio.current_task()
        assert task is not None, "a method runs in a task"
        connection = incoming.connection
        older = self._watchers.get(connection)
        self._watchers[connection] = task
        if older is not None:
            older.cancel()
        try:
            return await self._tell(incoming)
        except asyncio.CancelledError:
            if self._watchers[connection] is task:
                raise
            raise LimitExceeded("A newer watch of the same connection replaces this one.") from None
        finally:
            if self._watchers[connection] is task:
                del self._watchers[connection]

    async def _tell(self, incoming: IncomingCall) -> bytes:
        while self._is_open:
            change = self._change
            skills = tuple(self._skills[name] for name in sorted(self._skills)[:OFFERS_LIMIT])
            await incoming.send(encode(OffersMessage(VERSION, self._tier, skills)))
            await change.wait()
        return b""

    async def describe(self, incoming: IncomingCall) -> bytes:
        """The `skills.describe` method."""
        return describe_json(
            require_published(self._find(incoming.body.decode("utf-8", "replace")))
        )

    def _wake(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


def require_published(skill: ServedSkill) -> ServedSkill:
    """The same skill; for peers, one with `publish = false` is as unknown as one that is not."""
    if not skill.terms.publish:
        raise UnknownSkill(f"There is no skill “{skill.name}” on this node.")
    return skill


def describe_json(skill: ServedSkill) -> bytes:
    """All that a caller needs to know of a skill, as JSON."""
    return msgspec.json.encode(
        {
            "name": skill.name,
            "version": skill.version,
            "description": skill.metadata.description,
            "tags": skill.metadata.tags,
            "kind": skill.description.kind,
            "timeout_ms": skill.terms.timeout_ms,
            "input_schema": skill.description.input_schema,
            "output_schema": skill.description.output_schema,
            "instructions": skill.description.instructions,
            "defaults": skill.description.defaults,
            "examples": skill.description.examples,
            "digest": skill.digests.replica.hex(),
            "warnings": skill.warnings,
        }
    )


def description_from(answer: bytes) -> dict[str, Any]:
    """What `describe_json` made, here or on a peer, which may have sent anything."""
    if not is_json(answer):
        raise MalformedMessage("A skill's description is not JSON.")
    description = msgspec.json.decode(answer)
    if not isinstance(description, dict):
        raise MalformedMessage("A skill's description is not a JSON object.")
    return description
