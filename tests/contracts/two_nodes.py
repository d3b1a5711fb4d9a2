"""Two nodes that talk: what the transport contract is written in."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import DEVELOPMENT_NETWORK, NetworkId, NodeId
from swarmharness.network.address import Address
from swarmharness.network.transport.seam import Connection, Stream, Transport

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Node:
    name: str
    node_id: NodeId
    transport: Transport
    addresses: Sequence[Address]


class TransportFactory(Protocol):
    stalled_bytes: int
    """The most that a writer gets rid of while the reader does not read."""
    wire_bytes: int
    """What sockets of the system hold beside the transport's own buffers, at most."""
    large_bytes: int
    connection_cycles: int
    patience_ms: int
    """A dial that is not woken ends by itself after this."""
    hang_s: float
    """After this a test is hanging, not slow."""

    async def start(self, name: str, *, network_id: NetworkId = DEVELOPMENT_NETWORK) -> Node: ...

    async def silent_address(self) -> Address:
        """Where somebody is who never says a word."""

    async def settle(self) -> None:
        """Let everything happen that can happen by itself."""

    async def crash(self, node: Node) -> None:
        """The node is gone without closing anything."""

    async def close(self) -> None:
        """Close all nodes."""


@asynccontextmanager
async def two_nodes(factory: TransportFactory) -> AsyncIterator[tuple[Node, Node]]:
    async with asyncio.timeout(factory.hang_s):
        try:
            yield await factory.start("a"), await factory.start("b")
        finally:
            await factory.close()


async def connect(dialer: Node, listener: Node) -> tuple[Connection, Connection]:
    accepting = asyncio.create_task(listener.transport.accept())
    try:
        ours = await dialer.transport.dial(listener.node_id, listener.addresses, timeout_ms=20_000)
        return ours, await accepting
    finally:
        accepting.cancel()
        await asyncio.wait([accepting])


@asynccontextmanager
async def two_ends(factory: TransportFactory) -> AsyncIterator[tuple[Connection, Connection]]:
    async with two_nodes(factory) as (a, b):
        yield await connect(a, b)


async def stream_between(ours: Connection, theirs: Connection) -> tuple[Stream, Stream]:
    stream = await ours.open_stream()
    await stream.write(b"!")
    accepted = await theirs.accept_stream()
    assert await accepted.read(1) == b"!"
    return stream, accepted


async def read_all(stream: Stream, max_bytes: int = 64 * KIB) -> bytes:
    pieces = []
    while piece := await stream.read(max_bytes):
        assert len(piece) <= max_bytes
        pieces.append(piece)
    return b"".join(pieces)


async def cancelled(doing: "asyncio.Task[Any]") -> None:
    doing.cancel()
    await asyncio.wait([doing])
    assert doing.cancelled()


class Flood:
    """Writes without end and counts what the transport took."""

    def __init__(self, stream: Stream, piece_bytes: int = 16 * KIB) -> None:
        self.accepted = 0
        self._piece = bytes(piece_bytes)
        self._stream = stream
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self._stream.write(self._piece)
            self.accepted += len(self._piece)

    async def is_stuck(self, factory: TransportFactory) -> None:
        seen = -1
        while self.accepted != seen:
            seen = self.accepted
            await factory.settle()


async def outcome(operation: Awaitable[Any]) -> object:
    """The SwarmError an operation ended with, or its result; anything else fails the test."""
    try:
        return await operation
    except SwarmError as error:
        return error
