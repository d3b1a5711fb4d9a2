"""The transport seam: what every way to reach a node must do, and nothing more.

A transport carries bytes in ordered streams between two nodes that have proved who they are.
Above this line nobody knows whether a peer is in this process or behind two routers; below it
nobody knows what a call is. One contract suite (`tests/contracts/`) runs over every transport.

Semantics that every implementation keeps:

- `dial` returns only if the other side proved to be `peer`. Addresses are hints.
- `accept` yields only peers that proved their id and share our network.
- `write` returns once the bytes are in a bounded buffer, else waits. A write that is cancelled
  half-way leaves a stream with a hole, so the stream is reset.
- `read` yields 1..max_bytes in order; `b""` only after the peer's `finish`. A reset raises
  `StreamReset`; a dead connection raises `ConnectionLost`.
- `finish`, `reset`, `stop` and both `close` are idempotent, and `close` wakes every waiter with
  one and the same reason.
- Reaching a limit raises `LimitExceeded`; nothing is dropped silently.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from swarmharness.kernel.ids import NodeId
from swarmharness.network.address import Address, TransportKind

CLOSE_NORMAL = 0
CLOSE_GOING_AWAY = 1
CLOSE_PROTOCOL_VIOLATION = 2
CLOSE_DUPLICATE = 3
CLOSE_IDLE = 4
CLOSE_OVERLOADED = 5
CLOSE_LOST = 255
"""Not sent: the connection ended without a word."""


class CloseReason(NamedTuple):
    """Why a connection ended; `by_peer` is None when nobody said so (it was lost)."""

    code: int
    text: str
    by_peer: bool | None


class PathInfo(NamedTuple):
    """How the bytes travel now."""

    relayed: bool
    rtt_us: int | None
    remote: str


class Stream(Protocol):
    """Ordered bytes both ways, each direction ended by itself."""

    async def read(self, max_bytes: int) -> bytes: ...

    async def write(self, data: bytes | memoryview) -> None: ...

    async def finish(self) -> None:
        """No more writes; what was written is still delivered."""

    async def reset(self, code: int) -> None:
        """Abandon sending; the peer's reads raise `StreamReset(code)`."""

    async def stop(self, code: int) -> None:
        """Ask the peer to stop sending; its writes raise `StreamReset(code)`."""


@runtime_checkable
class EagerStream(Protocol):
    """What a stream may offer besides: bytes both ways without a turn of the event loop."""

    def try_write(self, data: bytes | memoryview) -> bool:
        """Either all of the data is on its way now, or False and nothing was done."""

    def divert(self, sink: Callable[[bytes], None]) -> None:
        """What arrives goes to the sink, which never raises; `read` only waits for the end."""


class Connection(Protocol):
    """Streams between two nodes that know each other's id."""

    @property
    def remote_id(self) -> NodeId: ...

    @property
    def is_dialer(self) -> bool: ...

    async def open_stream(self, priority: int = 1) -> Stream: ...

    async def accept_stream(self) -> Stream: ...

    def path(self) -> PathInfo: ...

    async def close(self, code: int, reason: str) -> None: ...

    async def wait_closed(self) -> CloseReason: ...


class Transport(Protocol):
    """One way to reach nodes and to be reached."""

    kind: TransportKind

    async def listen(self) -> frozenset[Address]: ...

    async def dial(
        self, peer: NodeId, addresses: Sequence[Address], *, timeout_ms: int
    ) -> Connection: ...

    async def accept(self) -> Connection: ...

    def watch_addresses(self) -> AsyncIterator[frozenset[Address]]: ...

    async def close(self, *, drain_ms: int) -> None: ...
