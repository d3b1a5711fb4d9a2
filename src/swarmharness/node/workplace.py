"""The workplace is the executor's side of a task: it checks an offer and runs the handler.

The node's own tasks and those of its peers take the same way through here; only the caller class
differs, which keeps them in different sandboxes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import final

from swarmharness.kernel.codec import encode
from swarmharness.kernel.errors import MalformedMessage, SwarmError
from swarmharness.kernel.ids import NodeId
from swarmharness.network.io.incoming_call import IncomingCall
from swarmharness.network.io.rpc_connection import RpcConnection
from swarmharness.node.byte_budget import ByteBudget
from swarmharness.node.content import pack, size_of, unpack
from swarmharness.node.errors import ShuttingDown
from swarmharness.node.gauge import Gauge
from swarmharness.node.offering import require_published
from swarmharness.skills.call import (
    Artifact,
    CallerClass,
    CallEvent,
    Chunk,
    Executor,
    Finished,
    JsonBytes,
    Meters,
    Progress,
    SkillCall,
    Started,
)
from swarmharness.skills.errors import InputTooLarge
from swarmharness.skills.io.library import SkillLibrary
from swarmharness.skills.served import ServedSkill
from swarmharness.tasks.messages import (
    TEXT_LIMIT,
    AcceptedMessage,
    ArtifactMessage,
    ChunkMessage,
    ItemMessage,
    OfferMessage,
    ProgressMessage,
    ResultMessage,
    UsageMessage,
    decode_offer,
)
from swarmharness.tasks.once import StartRegister
from swarmharness.tasks.task import TaskId

HELD_INPUT_BYTES = 256 * 1024 * 1024  # of all peers' tasks together: sixty-four full inputs
HELD_SHARE_BYTES = HELD_INPUT_BYTES // 8  # of one peer's: seven others find room beside it


@final
class Workplace:
    """Runs offered tasks, at most once each, until the node drains."""

    def __init__(self, node_id: NodeId, library: SkillLibrary, executor: Executor) -> None:
        self._node_id = node_id
        self._library = library
        self._executor = executor
        self._register = StartRegister()
        self._is_open = True
        self._held = ByteBudget(HELD_INPUT_BYTES, share_bytes=HELD_SHARE_BYTES)
        self.gauge = Gauge()
        self.for_peers = Gauge()
        self.completed = 0
        self.failed = 0

    def drain(self) -> None:
        """Refuse everything that is not already running."""
        self._is_open = False

    async def perform(
        self,
        submitter: NodeId,
        task_id: TaskId,
        skill: str,
        input_json: bytes,
        *,
        deadline_ms: int,
    ) -> AsyncGenerator[CallEvent, None]:
        """The events of one run. Closing the iterator cancels the handler."""
        if not self._is_open:
            raise ShuttingDown("This node is shutting down and takes no new tasks.")
        served = self._find(submitter, skill)
        caller = CallerClass.OWNER if submitter == self._node_id else CallerClass.PUBLIC
        call = SkillCall(
            call_id=task_id.hex(),
            skill=served.name,
            input=JsonBytes(input_json),
            deadline_ms=deadline_ms,
            caller=caller,
        )
        self._register.start(submitter, task_id)
        was_started = False
        try:
            with self.gauge.one():
                async with aclosing(self._executor.run(call)) as events:
                    async for event in events:
                        was_started = was_started or isinstance(event, Started)
                        # Before the yield: who has the last event asks for no further one.
                        self.completed += isinstance(event, Finished)
                        yield event
        except SwarmError:
            self.failed += 1
            if not was_started:
                self._register.withdraw(submitter, task_id)
            raise

    async def run_for_peer(self, incoming: IncomingCall) -> bytes:
        """The `task.run` method."""
        if not incoming.is_streamed:
            raise MalformedMessage("A task is a streamed call: its updates would have no way back.")
        connection = incoming.connection
        offer = decode_offer(incoming.body)
        limit = self._find(incoming.caller, offer.skill).terms.max_input_bytes
        if (size := size_of(offer.input)) > limit:
            raise InputTooLarge(f"The input has {size} bytes; {offer.skill} takes {limit}.")
        with self._held.take(incoming.caller, size), self.for_peers.one():
            input_json = await unpack(
                connection, offer.input, limit_bytes=limit, timeout_ms=incoming.remaining_ms()
            )
            return encode(await self._answer(incoming, offer, input_json))

    async def _answer(
        self, incoming: IncomingCall, offer: OfferMessage, input_json: bytes
    ) -> ResultMessage:
        """Sends each event on its way; the last one is the answer."""
        connection = incoming.connection
        events = self.perform(
            incoming.caller,
            TaskId(offer.task_id),
            offer.skill,
            input_json,
            deadline_ms=incoming.remaining_ms(),
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Finished):
                    output = None if event.output is None else await pack(connection, event.output)
                    return ResultMessage(output, usage_of(event.meters))
                await incoming.send(encode(await _item(connection, event)))
        raise AssertionError("an executor's events end with Finished or an error")

    def _find(self, submitter: NodeId, skill: str) -> ServedSkill:
        served = self._library.find(skill)
        return served if submitter == self._node_id else require_published(served)


async def _item(
    connection: RpcConnection, event: Started | Chunk | Progress | Artifact
) -> ItemMessage:
    match event:
        case Started():
            return AcceptedMessage()
        case Chunk(n, value, text):
            short = text if len(text.encode()) <= TEXT_LIMIT // 2 else None
            return ChunkMessage(n, await pack(connection, value), short)
        case Progress(thousandths, note):
            return ProgressMessage(thousandths, note)
        case Artifact(name, media_type, sha256, content):
            return ArtifactMessage(name, media_type, sha256, await pack(connection, content))


def usage_of(meters: Meters) -> UsageMessage:
    """The executor's meters, as they are told to the submitter."""
    return UsageMessage(
        queue_ms=meters.queue_ms,
        wall_ms=meters.wall_ms,
        cpu_ms=meters.cpu_ms,
        max_rss_kib=meters.max_rss_kib,
        bytes_in=meters.bytes_in,
        bytes_out=meters.bytes_out,
        chunks=meters.chunks,
        was_cold=meters.cold,
    )
