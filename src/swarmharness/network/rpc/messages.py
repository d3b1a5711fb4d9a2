"""The messages inside frames; RESPONSE, DATA, PING and PONG carry bare bytes and need none."""

from __future__ import annotations

from typing import Annotated, final

import msgspec
from msgspec import Meta

from swarmharness.kernel.ids import NODE_ID_BYTES
from swarmharness.network.rpc.limits import (
    KEY_BYTES,
    MAX_AGENT_CHARS,
    MAX_FRAME_BYTES,
    MAX_METHOD_CHARS,
    MAX_REASON_CHARS,
    MAX_TIMEOUT_MS,
    MAX_TRACE_BYTES,
    MAX_WINDOW_BYTES,
)

PROTOCOL_VERSIONS = (1,)

Bytes32 = Annotated[bytes, Meta(min_length=NODE_ID_BYTES, max_length=NODE_ID_BYTES)]
Key = Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Reason = Annotated[str, Meta(max_length=MAX_REASON_CHARS)]
Natural = Annotated[int, Meta(ge=0)]


@final
class Hello(msgspec.Struct, array_like=True, frozen=True):
    """The first frame both ways: who speaks which version, in which network and life."""

    network_id: Bytes32
    run_id: Key
    """Random at each start of the node: tells a restarted peer from a second connection."""
    versions: Annotated[tuple[Natural, ...], Meta(max_length=16)] = PROTOCOL_VERSIONS
    agent: Annotated[str, Meta(max_length=MAX_AGENT_CHARS)] = ""
    role: Natural = 0
    max_frame: Natural = MAX_FRAME_BYTES
    features: Annotated[tuple[Annotated[str, Meta(max_length=32)], ...], Meta(max_length=32)] = ()
    observed: Annotated[str, Meta(max_length=128)] = ""
    """The receiver's address as the sender sees it."""
    now_ms: int = 0
    boot: Natural = 0
    seq: Natural = 0


@final
class Request(msgspec.Struct, array_like=True, frozen=True):
    """Starts a call; the frame's flags say whether items follow."""

    method: Annotated[str, Meta(max_length=MAX_METHOD_CHARS)]
    remaining_ms: Annotated[int, Meta(ge=0, le=MAX_TIMEOUT_MS)]
    idempotency_key: Key | None
    trace: Annotated[bytes, Meta(max_length=MAX_TRACE_BYTES)]
    body: bytes


@final
class Cancel(msgspec.Struct, array_like=True, frozen=True):
    """The caller no longer wants the answer."""

    reason: Reason


@final
class Window(msgspec.Struct, array_like=True, frozen=True):
    """More bytes of items may be sent in this call, or in call 0 on the whole connection."""

    granted_bytes: Annotated[int, Meta(ge=1, le=MAX_WINDOW_BYTES)]


@final
class GoAway(msgspec.Struct, array_like=True, frozen=True):
    """No new calls; those up to `last_call` are still answered."""

    code: Annotated[int, Meta(ge=0, le=255)]
    last_call: Natural
    reason: Reason


@final
class BulkTicket(msgspec.Struct, array_like=True, frozen=True):
    """The right to fetch one large content once; it travels inside ordinary messages."""

    token: Key
    size: Natural
    sha256: Bytes32


@final
class OpenBulk(msgspec.Struct, array_like=True, frozen=True):
    """First frame on a bulk stream: which content, and from which byte on."""

    token: Key
    offset: Natural
