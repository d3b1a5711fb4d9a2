"""Real TLS nodes on loopback, and raw sockets that speak to them without our dialer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from swarmharness.kernel.ids import DEVELOPMENT_NETWORK, NetworkId
from swarmharness.kernel.signing import KeyPair
from swarmharness.network import records
from swarmharness.network.address import Address, TransportKind
from swarmharness.network.client_proof import Challenge
from swarmharness.network.records import Record, RecordReader
from swarmharness.network.transport.tls import TlsTransport
from swarmharness.network.transport.tls_connection import TlsConnection
from swarmharness.network.transport.tls_context import dialer_context
from swarmharness.network.transport.tls_limits import TlsLimits

ALICE = KeyPair(b"A" * 32)
BOB = KeyPair(b"B" * 32)
MALLORY = KeyPair(b"M" * 32)
OTHER_NETWORK = NetworkId(b"o" * 32)
PATIENCE_MS = 60_000  # never reached; a hang fails by the runner's own limit


@asynccontextmanager
async def node(
    key: KeyPair,
    *,
    listens: bool = True,
    network: NetworkId = DEVELOPMENT_NETWORK,
    limits: TlsLimits | None = None,
) -> AsyncIterator[tuple[TlsTransport, list[Address]]]:
    place = ("127.0.0.1", 0) if listens else None
    transport = TlsTransport(key, network, place, limits=limits)
    try:
        yield transport, sorted(await transport.listen())
    finally:
        await transport.close(drain_ms=500)


@asynccontextmanager
async def connected(
    *, dialer_limits: TlsLimits | None = None, acceptor_limits: TlsLimits | None = None
) -> AsyncIterator[tuple[TlsConnection, TlsConnection]]:
    """Alice has dialled Bob."""
    async with (
        node(ALICE, listens=False, limits=dialer_limits) as (alice, _),
        node(BOB, limits=acceptor_limits) as (bob, places),
    ):
        there = await alice.dial(BOB.node_id, places, timeout_ms=PATIENCE_MS)
        back = await bob.accept()
        yield there, back


class RawClient:
    """TLS by the standard library's own streams, records by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._records = RecordReader()
        self._waiting: list[Record] = []

    async def record(self) -> tuple[int, bytes] | None:
        """None at the end of the flow, however it ends."""
        while not self._waiting:
            try:
                data = await self._reader.read(65536)
            except (OSError, ssl.SSLError):
                return None
            if not data:
                return None
            found = self._records.feed(memoryview(data))
            self._waiting.extend(Record(kind, memoryview(bytes(body))) for kind, body in found)
        kind, body = self._waiting.pop(0)
        return kind, bytes(body)

    async def challenge(self) -> Challenge:
        answer = await self.record()
        assert answer is not None
        assert answer[0] == records.RecordKind.CHALLENGE
        return Challenge.decode(answer[1])

    async def refusal(self) -> tuple[int, str] | None:
        """What the other side said before it hung up."""
        answer = await self.record()
        if answer is None:
            return None
        assert answer[0] == records.RecordKind.CLOSE, answer
        assert await self.record() is None
        return records.close_in(answer[1])


@asynccontextmanager
async def raw_client(
    place: Address, context: ssl.SSLContext | None = None
) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection(
        place.host, place.port, ssl=context or dialer_context()
    )
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


@asynccontextmanager
async def raw_tcp(
    place: Address,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(place.host, place.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


class Heard:
    """What a fake server was told, and where it listens."""

    def __init__(self) -> None:
        self.place = Address(TransportKind.TLS, "127.0.0.1", 0)
        self.said = bytearray()
        self.open_ones: set[asyncio.Transport] = set()


class FakeServer(asyncio.Protocol):
    """Greets, listens, and answers whatever it hears with the same words."""

    def __init__(self, heard: Heard, greeting: bytes, words: bytes) -> None:
        self._heard = heard
        self._greeting = greeting
        self._words = words

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._heard.open_ones.add(transport)
        transport.write(self._greeting)

    def data_received(self, data: bytes) -> None:
        self._heard.said += data
        self._transport.write(self._words)

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard.open_ones.discard(self._transport)


@asynccontextmanager
async def fake_server(
    *, greeting: bytes = b"", words: bytes = b"", context: ssl.SSLContext | None = None
) -> AsyncIterator[Heard]:
    heard = Heard()
    server = await asyncio.get_running_loop().create_server(
        lambda: FakeServer(heard, greeting, words), "127.0.0.1", 0, ssl=context
    )
    try:
        heard.place = Address(TransportKind.TLS, "127.0.0.1", server.sockets[0].getsockname()[1])
        yield heard
    finally:
        server.close()
        for transport in list(heard.open_ones):
            transport.abort()
        while heard.open_ones:
            await asyncio.sleep(0)
        await server.wait_closed()
