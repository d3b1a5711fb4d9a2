"""Bulk is content too large for a message: offered by ticket, fetched on a stream of its own.

Theory of operation. The ticket (token, size, SHA-256) travels inside an ordinary message. The
fetcher opens a transport stream and sends OPEN_BULK with the token and an offset; the offerer
answers with an OPEN_BULK frame and the bare bytes from there on, or with an ERROR frame. The
fetcher hashes while it reads. It finishes its own direction only when size and hash are right:
that finish, not the last byte sent, spends the token. A stream lost on the way can therefore be
resumed at the first missing byte, and a second fetch of spent content is refused.

A token works on one connection only: another peer that learns it gains nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from collections.abc import Callable
from typing import Final, final

from swarmharness.kernel.codec import decode, encode
from swarmharness.kernel.errors import ErrorRecord, SwarmError, from_record
from swarmharness.network.errors import (
    BulkCorrupt,
    BulkUnknown,
    ConnectionLost,
    DeadlineExceeded,
    LimitExceeded,
    MessageTooLarge,
    ProtocolViolation,
    StreamReset,
)
from swarmharness.network.rpc import frames
from swarmharness.network.rpc.limits import (
    BULK_ATTEMPTS,
    BULK_CHUNK_BYTES,
    HELLO_MS,
    KEY_BYTES,
    MAX_TICKET_TTL_MS,
    OFFERED_BYTES,
    OFFERS,
)
from swarmharness.network.rpc.messages import BulkTicket, OpenBulk
from swarmharness.network.transport.seam import (
    CLOSE_NORMAL,
    CLOSE_PROTOCOL_VIOLATION,
    Connection,
    Stream,
)

HASH_SLICE_BYTES: Final = 1024 * 1024  # a millisecond of hashing; more would hold the loop


@final
class _Offer:
    """Content on the shelf, until fetched once or expired."""

    def __init__(self, data: memoryview, expiry: asyncio.TimerHandle) -> None:
        self.data = data
        self.expiry = expiry
        self.server: asyncio.Task[None] | None = None


@final
class BulkShelf:
    """What one connection offers to its peer."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._loop = loop
        self._random_bytes = random_bytes
        self._offers: dict[bytes, _Offer] = {}
        self._offered_bytes = 0

    async def offer(self, data: bytes | memoryview, *, ttl_ms: int) -> BulkTicket:
        """The data is referenced, not copied: it must not change until it is fetched."""
        assert 0 < ttl_ms <= MAX_TICKET_TTL_MS, "a ticket lives for at most an hour"
        view = memoryview(data).cast("B")
        self._check_room(len(view))
        digest = await _digest(view)
        self._check_room(len(view))
        token = self._random_bytes(KEY_BYTES)
        expiry = self._loop.call_later(ttl_ms / 1000, self._forget, token)
        self._offers[token] = _Offer(view, expiry)
        self._offered_bytes += len(view)
        return BulkTicket(token, len(view), digest)

    async def serve(self, stream: Stream) -> None:
        """Answers one stream that the peer has opened."""
        try:
            async with asyncio.timeout(HELLO_MS / 1000):
                request = await _read_open(stream)
            await self._send(stream, request)
        except ConnectionLost:
            return  # the framed stream ends as well, and whoever reads it reports why
        except (StreamReset, TimeoutError, asyncio.CancelledError) as error:
            await _abandon(stream, CLOSE_NORMAL)
            if isinstance(error, asyncio.CancelledError):
                raise
        except ProtocolViolation:
            await _abandon(stream, CLOSE_PROTOCOL_VIOLATION)
        except SwarmError as error:
            payload = encode(error.record())
            await _say(stream, frames.encode_frame(frames.ERROR, 0, 0, payload))

    def close(self) -> None:
        """Nothing can be fetched any more."""
        for token in list(self._offers):
            self._forget(token)

    async def _send(self, stream: Stream, request: OpenBulk) -> None:
        offer = self._offers.get(request.token)
        if offer is None or request.offset > len(offer.data):
            raise BulkUnknown("This bulk ticket is unknown, spent or expired.")
        if offer.server is not None:
            offer.server.cancel()  # the fetcher has given up the stream that this one replaces
        offer.server = asyncio.current_task()
        await stream.write(frames.encode_frame(frames.OPEN_BULK, 0, 0, b""))
        for start in range(request.offset, len(offer.data), BULK_CHUNK_BYTES):
            await stream.write(offer.data[start : start + BULK_CHUNK_BYTES])
        await stream.finish()
        if await stream.read(1):
            raise ProtocolViolation("A bulk stream carries nothing after its request.")
        self._forget(request.token)

    def _check_room(self, size: int) -> None:
        if len(self._offers) >= OFFERS or self._offered_bytes + size > OFFERED_BYTES:
            raise LimitExceeded(
                f"{len(self._offers)} contents with {self._offered_bytes} bytes are on offer "
                "to this peer already."
            )

    def _forget(self, token: bytes) -> None:
        offer = self._offers.pop(token, None)
        if offer is not None:
            offer.expiry.cancel()
            self._offered_bytes -= len(offer.data)


async def fetch_bulk(
    connection: Connection, ticket: BulkTicket, *, limit_bytes: int, timeout_ms: int
) -> bytes:
    """The content that the ticket names; anything else is an error, never a shorter answer."""
    if ticket.size > limit_bytes:
        raise MessageTooLarge(
            f"The content has {ticket.size} bytes; at most {limit_bytes} are wanted."
        )
    fetch = _Fetch(connection, ticket)
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            return await fetch.run()
    except TimeoutError:
        raise DeadlineExceeded(
            f"{fetch.received_bytes} of {ticket.size} bytes arrived in {timeout_ms} ms."
        ) from None


@final
class _Fetch:
    """One content under way, over as many streams as it takes."""

    def __init__(self, connection: Connection, ticket: BulkTicket) -> None:
        self.received_bytes = 0
        self._connection = connection
        self._ticket = ticket
        self._hash = hashlib.sha256()
        self._content = io.BytesIO()  # gives out what it holds without a copy

    async def run(self) -> bytes:
        idle_attempts = 0
        while True:
            before = self.received_bytes
            stream = await self._connection.open_stream(2)
            try:
                await self._read_from(stream)
            except StreamReset:
                idle_attempts = idle_attempts + 1 if self.received_bytes == before else 1
                await _abandon(stream, CLOSE_NORMAL)
                if idle_attempts >= BULK_ATTEMPTS:
                    raise
                continue
            except BaseException:
                await _abandon(stream, CLOSE_NORMAL)
                raise
            return self._content.getvalue()

    async def _read_from(self, stream: Stream) -> None:
        request = encode(OpenBulk(self._ticket.token, self.received_bytes))
        await stream.write(frames.encode_frame(frames.OPEN_BULK, 0, 0, request))
        rest = await _read_acceptance(stream)
        while chunk := rest or await stream.read(BULK_CHUNK_BYTES):
            rest = b""
            if self.received_bytes + len(chunk) > self._ticket.size:
                raise BulkCorrupt(f"More than the promised {self._ticket.size} bytes arrived.")
            self._hash.update(chunk)
            self._content.write(chunk)
            self.received_bytes += len(chunk)
        if self.received_bytes < self._ticket.size:
            raise BulkCorrupt(
                f"Only {self.received_bytes} of the promised {self._ticket.size} bytes arrived."
            )
        if self._hash.digest() != self._ticket.sha256:
            raise BulkCorrupt("The content is not the one that was promised: its hash differs.")
        await stream.finish()


async def _read_open(stream: Stream) -> OpenBulk:
    kind, payload, rest = await _read_frame(stream)
    if kind != frames.OPEN_BULK or rest:
        raise ProtocolViolation("A bulk stream begins with one OPEN_BULK frame.")
    return decode(OpenBulk, payload)


async def _read_acceptance(stream: Stream) -> bytes:
    """What followed the acceptance in the same read."""
    kind, payload, rest = await _read_frame(stream)
    if kind == frames.ERROR:
        raise from_record(decode(ErrorRecord, payload), remote=True)
    if kind != frames.OPEN_BULK or payload:
        raise ProtocolViolation("The answer on a bulk stream is neither content nor an error.")
    return rest


async def _read_frame(stream: Stream) -> tuple[int, bytes, bytes]:
    data = b""
    length = needed = 0
    kind = frames.LAST_TYPE
    while not needed or len(data) < needed:
        more = await stream.read(BULK_CHUNK_BYTES)
        if not more:
            raise ProtocolViolation("A bulk stream ended inside its first frame.")
        data += more
        if not needed and len(data) >= frames.HEADER_BYTES:
            length, kind, flags, zero, call = frames.HEADER.unpack_from(data)
            if length > frames.MAX_PAYLOAD_BYTES or flags or zero or call:
                raise ProtocolViolation("The first frame of a bulk stream has a bad header.")
            needed = frames.HEADER_BYTES + length
    return kind, data[frames.HEADER_BYTES : needed], data[needed:]


async def _say(stream: Stream, last_words: bytes) -> None:
    with contextlib.suppress(StreamReset, ConnectionLost):  # a peer that has left is not told
        await stream.write(last_words)
        await stream.finish()


async def _abandon(stream: Stream, code: int) -> None:
    with contextlib.suppress(ConnectionLost):  # then there is nothing left to abandon
        await stream.reset(code)
        await stream.stop(code)


async def _digest(view: memoryview) -> bytes:
    digest = hashlib.sha256()
    for start in range(0, len(view), HASH_SLICE_BYTES):
        digest.update(view[start : start + HASH_SLICE_BYTES])
        if start:
            await asyncio.sleep(0)
    return digest.digest()
