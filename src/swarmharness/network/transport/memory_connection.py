"""A memory connection is one end of a connection between two nodes of one process.

Theory of operation. Both ends are made together and know each other. An end never touches the
other directly: whatever it wants done there travels as a record through the modelled network
and calls a method of the other end on arrival. Records of one stream arrive in order, those of
different streams as the links have it. The closing record comes after all that was sent.

Records that nobody confirms for `UNANSWERED_LIMIT_MS` mean that the other end is gone: a
crashed node looks like silence, and only somebody who sends can notice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any, Protocol, final

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import NodeId, node_id_short
from swarmharness.network.errors import ConnectionLost, LimitExceeded
from swarmharness.network.transport.bell import Bell
from swarmharness.network.transport.memory_stream import CONTROL_BYTES, Lane, MemoryStream
from swarmharness.network.transport.seam import (
    CLOSE_LOST,
    CLOSE_OVERLOADED,
    CloseReason,
    PathInfo,
)

MAX_STREAMS = 256  # of one connection, both ways together; QUIC stacks allow 100 to 256
MAX_BUFFERED_BYTES = 8 * 1024 * 1024  # of one connection: written, and not known to be read
UNANSWERED_LIMIT_MS = 30_000  # what nodes on TCP set as its user timeout


class Carrier(Protocol):
    """What a connection needs of the network between its ends."""

    def transmit(
        self, sender: MemoryConnection, lane: Lane, size: int, *, is_last: bool = False
    ) -> None: ...

    def round_trip_us(self, route: tuple[str, ...]) -> int: ...


class ConnectionOwner(Protocol):
    """What a connection needs of the transport that it belongs to."""

    def connection_ended(self, connection: MemoryConnection) -> None: ...

    def made_progress(self) -> None: ...


@final
class MemoryConnection:
    """Made in pairs by `connect_ends`."""

    def __init__(
        self,
        carrier: Carrier,
        owner: ConnectionOwner,
        remote_id: NodeId,
        *,
        is_dialer: bool,
        route: tuple[str, ...],
    ) -> None:
        self.remote_id = remote_id
        self.is_dialer = is_dialer
        self.route = route  # from this end to the other
        self.other_end: MemoryConnection = self  # until connect_ends
        self.last_arrival_us = 0
        self.is_silent = False  # its node crashed
        self._carrier = carrier
        self._owner = owner
        self._streams: dict[int, MemoryStream] = {}
        self._next_number = 1 if is_dialer else 2
        self._incoming: deque[MemoryStream] = deque()
        self._buffered_bytes = 0
        self._control = Lane()
        self._bell = Bell()
        self._reason: CloseReason | None = None
        self._loss_timer: asyncio.TimerHandle | None = None

    async def open_stream(self, priority: int = 1) -> MemoryStream:  # noqa: ARG002  all are alike here
        if failure := self.failure():
            raise failure
        if len(self._streams) >= MAX_STREAMS:
            raise LimitExceeded(f"This connection has {MAX_STREAMS} open streams already.")
        stream = MemoryStream(self, self._next_number)
        self._next_number += 2
        self._streams[stream.number] = stream
        self.send(stream.number, stream.lane, CONTROL_BYTES, "open")
        return stream

    async def accept_stream(self) -> MemoryStream:
        while not self._incoming:
            if failure := self.failure():
                raise failure
            await self._bell.wait()
        return self._incoming.popleft()

    def path(self) -> PathInfo:
        return PathInfo(
            relayed=len(self.route) > 2,  # noqa: PLR2004  the two ends and nobody between
            rtt_us=self._carrier.round_trip_us(self.route),
            remote=f"mem://{self.route[-1]}",
        )

    async def close(self, code: int, reason: str) -> None:
        self.close_now(code, reason)

    def close_now(self, code: int, reason: str) -> None:
        """What was sent before still arrives; what still waits to be sent does not."""
        if self._reason is not None:
            return
        self._control.under_way.append(
            partial(self.other_end.end, CloseReason(code, reason, by_peer=True))
        )
        self._carrier.transmit(self, self._control, CONTROL_BYTES, is_last=True)
        self.end(CloseReason(code, reason, by_peer=False))

    async def wait_closed(self) -> CloseReason:
        while self._reason is None:
            await self._bell.wait()
        return self._reason

    @property
    def is_closed(self) -> bool:
        return self._reason is not None

    @property
    def is_drained(self) -> bool:
        return all(stream.is_drained for stream in self._streams.values())

    # For the streams

    def failure(self) -> SwarmError | None:
        """Why nothing can be sent or awaited any more; a new object for every waiter."""
        if self._reason is None:
            return None
        code, text, by_peer = self._reason
        return ConnectionLost(
            f"The connection to {node_id_short(self.remote_id)} ended: {text}",
            data={"close_code": code, "by_peer": by_peer},
        )

    def reserve(self, count: int) -> None:
        if self._buffered_bytes + count > MAX_BUFFERED_BYTES:
            raise LimitExceeded(
                f"The other node reads too slowly: {self._buffered_bytes} bytes wait for it."
            )
        self._buffered_bytes += count

    def release(self, count: int) -> None:
        self._buffered_bytes -= count
        assert self._buffered_bytes >= 0

    def forget(self, number: int) -> None:
        self._streams.pop(number, None)

    def send(self, number: int, lane: Lane, size: int, event: str, *arguments: Any) -> None:
        """Have `event` happen to the stream at the other end; nothing once we are closed."""
        if self._reason is None:
            happen = partial(self.other_end.happen, number, event, arguments)
            lane.under_way.append(happen)
            self._carrier.transmit(self, lane, size)

    # For the network

    def arrive(self, lane: Lane) -> None:
        """The oldest record of a lane of ours is at the other end."""
        happen = lane.under_way.popleft()
        if not self.other_end.is_closed:
            happen()
        self._owner.made_progress()

    def happen(self, number: int, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._accept(number)
        elif (stream := self._streams.get(number)) is not None:
            getattr(stream, event)(*arguments)

    def nobody_answers(self) -> None:
        """Start the clock; `somebody_answers` stops it."""
        if self._loss_timer is None and self._reason is None:
            self._loss_timer = asyncio.get_running_loop().call_later(
                UNANSWERED_LIMIT_MS / 1000, self.lose, "the other node fell silent"
            )

    def somebody_answers(self) -> None:
        if self._loss_timer is not None:
            self._loss_timer.cancel()
            self._loss_timer = None

    def lose(self, text: str) -> None:
        """End without a word from the other side."""
        self.end(CloseReason(CLOSE_LOST, text, by_peer=None))

    def end(self, reason: CloseReason) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        self.somebody_answers()
        for stream in list(self._streams.values()):
            stream.connection_ended(by_us=reason.by_peer is False)
        self._streams.clear()
        if reason.by_peer is False:
            self._incoming.clear()
        self._bell.ring()
        self._owner.connection_ended(self)

    def _accept(self, number: int) -> None:
        stream = MemoryStream(self, number)
        self._streams[number] = stream
        if len(self._streams) > MAX_STREAMS:  # both sides opened the last one at once
            stream.peer_stop(CLOSE_OVERLOADED)
            self.send(number, stream.lane, CONTROL_BYTES, "peer_reset", CLOSE_OVERLOADED)
            self.send(number, stream.lane, CONTROL_BYTES, "peer_stop", CLOSE_OVERLOADED)
            self.forget(number)
            return
        self._incoming.append(stream)
        self._bell.ring()


def connect_ends(dialer: MemoryConnection, acceptor: MemoryConnection) -> None:
    """From now on each end is the other's other end."""
    assert dialer.route == acceptor.route[::-1]
    dialer.other_end, acceptor.other_end = acceptor, dialer
