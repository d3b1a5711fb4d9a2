"""The wire messages of a task between its submitter and its executor.

One streamed call of `RUN_METHOD` carries one attempt: the request body is an `OfferMessage`, items
are `ItemMessage`s, the answer is a `ResultMessage`. Refusals and failures are error frames. The
call's own deadline is the task's.
"""

from __future__ import annotations

from typing import Annotated, cast, final

import msgspec
from msgspec import Meta

from swarmharness.kernel.codec import decode, decode_union
from swarmharness.network.errors import VersionMismatch
from swarmharness.network.rpc.messages import BulkTicket
from swarmharness.tasks.task import TASK_ID_BYTES

RUN_METHOD = "task.run"
VERSION = 1
SKILL_NAME_LIMIT = 128  # as long as a skill's name may be
TEXT_LIMIT = 512 * 1024  # half of a message: chunk text and value travel together

ARTIFACT_NAME = r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}\Z"
"""A plain file name: nothing that could lead to another directory, or fool a terminal."""

Natural = Annotated[int, Meta(ge=0)]
Id = Annotated[bytes, Meta(min_length=TASK_ID_BYTES, max_length=TASK_ID_BYTES)]


@final
class Content(msgspec.Struct, array_like=True, frozen=True):
    """Bytes inside the message, or a ticket to fetch them with; exactly one of the two."""

    inline: bytes | None = None
    bulk: BulkTicket | None = None


@final
class OfferMessage(msgspec.Struct, array_like=True, frozen=True):
    """Do this task; `input` is one JSON value."""

    version: Natural
    task_id: Id
    attempt: Natural
    skill: Annotated[str, Meta(min_length=1, max_length=SKILL_NAME_LIMIT)]
    input: Content


def decode_offer(data: bytes) -> OfferMessage:
    """The request of a `task.run` call, if it is of a version that this one speaks."""
    offer = decode(OfferMessage, data)
    if offer.version != VERSION:
        raise VersionMismatch(
            f"The task is offered in version {offer.version}; this node speaks {VERSION}."
        )
    return offer


@final
class AcceptedMessage(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The handler has been started."""


@final
class ChunkMessage(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """What a streaming handler yielded: the JSON value, and its text as people see it."""

    n: Natural
    value: Content
    text: Annotated[str, Meta(max_length=TEXT_LIMIT)] | None
    """None when the text is left out for its length: the value says it all."""


@final
class ProgressMessage(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """How far the handler says it is."""

    thousandths: Annotated[int, Meta(ge=0, le=1000)]
    note: Annotated[str, Meta(max_length=500)]


@final
class ArtifactMessage(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """A file that the handler made."""

    name: Annotated[str, Meta(pattern=ARTIFACT_NAME)]
    media_type: Annotated[str, Meta(max_length=128)]
    sha256: Annotated[bytes, Meta(min_length=32, max_length=32)]
    content: Content


ItemMessage = AcceptedMessage | ChunkMessage | ProgressMessage | ArtifactMessage


def decode_item(data: bytes) -> ItemMessage:
    """One item of a `task.run` stream."""
    return cast("ItemMessage", decode_union(ItemMessage, data))


@final
class UsageMessage(msgspec.Struct, array_like=True, frozen=True):
    """What the executor says the call used: its claim, which nobody has to believe."""

    queue_ms: Natural = 0
    wall_ms: Natural = 0
    cpu_ms: Natural = 0
    max_rss_kib: Natural = 0
    bytes_in: Natural = 0
    bytes_out: Natural = 0
    chunks: Natural = 0
    was_cold: bool = False


@final
class ResultMessage(msgspec.Struct, array_like=True, frozen=True):
    """The end of a successful attempt; no output for a stream, whose chunks were it."""

    output: Content | None
    usage: UsageMessage
