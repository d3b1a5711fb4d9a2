import asyncio
import contextlib
import hashlib

import pytest

from network.rpc_pair import connection_pair
from swarmharness.kernel.codec import encode
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
from swarmharness.network.io.rpc_connection import RpcConnection
from swarmharness.network.rpc import frames
from swarmharness.network.rpc.limits import BULK_CHUNK_BYTES, BULK_STREAMS_PER_PEER, OFFERS
from swarmharness.network.rpc.messages import BulkTicket, Hello, OpenBulk
from swarmharness.network.transport.seam import CLOSE_NORMAL

HELLO = Hello(b"n" * 32, b"r" * 16)
CONTENT = bytes(range(256)) * 12_345  # 3 MiB, no multiple of a chunk
LIMIT = 2**30


class LoopClock:
    def now_us(self):
        return int(asyncio.get_running_loop().time() * 1_000_000)

    def wall_ms(self):
        return 0


class Linked:
    """`near` offers, `far` fetches; `wire` is the fetcher's transport connection."""

    async def __aenter__(self):
        near, self.wire = connection_pair()
        self.near = RpcConnection(near, methods={}, hello=HELLO, clock=LoopClock())
        self.far = RpcConnection(self.wire, methods={}, hello=HELLO, clock=LoopClock())
        await asyncio.gather(self.near.start(), self.far.start())
        return self

    async def __aexit__(self, *_):
        await self.near.close(CLOSE_NORMAL, "over", drain_ms=1)
        await self.far.close(CLOSE_NORMAL, "over", drain_ms=1)

    async def fetch(self, ticket, limit_bytes=LIMIT, timeout_ms=10_000):
        return await self.far.fetch_bulk(ticket, limit_bytes=limit_bytes, timeout_ms=timeout_ms)


@pytest.mark.parametrize("size", [0, 1, BULK_CHUNK_BYTES, BULK_CHUNK_BYTES + 1, len(CONTENT)])
async def test_content_of_any_size_arrives(size):
    async with Linked() as link:
        ticket = await link.near.offer_bulk(memoryview(CONTENT)[:size], ttl_ms=60_000)
        assert ticket.size == size
        assert await link.fetch(ticket) == CONTENT[:size]


async def test_a_ticket_works_once():
    async with Linked() as link:
        ticket = await link.near.offer_bulk(CONTENT, ttl_ms=60_000)
        await link.fetch(ticket)
        while link.near._bulk_tasks:
            await asyncio.sleep(0)
        with pytest.raises(BulkUnknown):
            await link.fetch(ticket)


@pytest.mark.virtual
async def test_a_ticket_expires():
    async with Linked() as link:
        ticket = await link.near.offer_bulk(CONTENT, ttl_ms=1000)
        await asyncio.sleep(1.1)
        with pytest.raises(BulkUnknown):
            await link.fetch(ticket)


async def test_an_invented_ticket():
    async with Linked() as link:
        with pytest.raises(BulkUnknown):
            await link.fetch(BulkTicket(b"t" * 16, 5, b"h" * 32))


async def test_content_over_the_fetcher_s_limit_is_not_even_asked_for():
    async with Linked() as link:
        ticket = await link.near.offer_bulk(b"12345", ttl_ms=60_000)
        with pytest.raises(MessageTooLarge):
            await link.fetch(ticket, limit_bytes=4)
        assert await link.fetch(ticket, limit_bytes=5) == b"12345"


@pytest.mark.parametrize("size", [2, 4])
async def test_a_wrong_size_is_noticed_and_does_not_spend_the_ticket(size):
    async with Linked() as link:
        ticket = await link.near.offer_bulk(b"123", ttl_ms=60_000)
        with pytest.raises(BulkCorrupt):
            await link.fetch(BulkTicket(ticket.token, size, ticket.sha256))
        assert await link.fetch(ticket) == b"123"


async def test_a_wrong_hash_is_noticed():
    async with Linked() as link:
        ticket = await link.near.offer_bulk(b"123", ttl_ms=60_000)
        with pytest.raises(BulkCorrupt, match="hash"):
            await link.fetch(BulkTicket(ticket.token, 3, hashlib.sha256(b"124").digest()))


def cut_streams(link, *, after_reads, times):
    """The fetcher's first `times` bulk streams are lost after some reads."""
    opened = []
    open_stream = link.wire.open_stream

    async def open_fragile(priority=1):
        stream = await open_stream(priority)
        opened.append(stream)
        if len(opened) <= times:
            left = after_reads
            read = stream.read

            async def read_some(max_bytes):
                nonlocal left
                left -= 1
                if left < 0:
                    raise StreamReset("lost", data={"reset_code": 9})
                return await read(max_bytes)

            stream.read = read_some
        return stream

    link.wire.open_stream = open_fragile
    return opened


async def test_a_lost_stream_is_resumed_where_it_broke():
    async with Linked() as link:
        ticket = await link.near.offer_bulk(CONTENT, ttl_ms=60_000)
        opened = cut_streams(link, after_reads=4, times=2)
        assert await link.fetch(ticket) == CONTENT
        assert len(opened) == 3
        while link.near._bulk_tasks:
            await asyncio.sleep(0)
        with pytest.raises(BulkUnknown):
            await link.fetch(ticket)


async def test_streams_that_never_bring_anything_are_given_up():
    async with Linked() as link:
        ticket = await link.near.offer_bulk(CONTENT, ttl_ms=60_000)
        opened = cut_streams(link, after_reads=1, times=99)
        with pytest.raises(StreamReset):
            await link.fetch(ticket)
        assert len(opened) == 4


@pytest.mark.virtual
async def test_a_fetch_that_takes_too_long():
    async with Linked() as link:
        ticket = await link.near.offer_bulk(CONTENT, ttl_ms=60_000)
        fetch = asyncio.ensure_future(link.fetch(ticket, timeout_ms=500))
        while len(link.wire.streams) < 2:
            await asyncio.sleep(0)
        link.wire.streams[1].incoming.is_stuck = True
        with pytest.raises(DeadlineExceeded, match="bytes arrived"):
            await fetch


async def test_offers_are_limited_and_expire_with_the_connection():
    async with Linked() as link:
        for _ in range(OFFERS):
            await link.near.offer_bulk(b"x", ttl_ms=60_000)
        with pytest.raises(LimitExceeded):
            await link.near.offer_bulk(b"x", ttl_ms=60_000)
        await link.near.close(CLOSE_NORMAL, "bye", drain_ms=1)
        with pytest.raises(ConnectionLost):
            await link.near.offer_bulk(b"x", ttl_ms=60_000)
        await link.far.wait_closed()
        with pytest.raises(ConnectionLost):
            await link.fetch(BulkTicket(b"t" * 16, 5, b"h" * 32))


@pytest.mark.virtual
async def test_silent_bulk_streams_are_limited_and_dropped():
    async with Linked() as link:
        silent = [await link.wire.open_stream() for _ in range(BULK_STREAMS_PER_PEER)]
        await asyncio.sleep(0.1)
        one_more = await link.wire.open_stream()
        with pytest.raises(StreamReset):
            await one_more.read(1)
        await asyncio.sleep(6)
        for stream in silent:
            with pytest.raises(StreamReset):
                await stream.read(1)
        ticket = await link.near.offer_bulk(b"fine again", ttl_ms=60_000)
        assert await link.fetch(ticket) == b"fine again"


@pytest.mark.parametrize(
    "first",
    [
        b"\xff" * 20,
        frames.encode_frame(frames.PING, 0, 0, b""),
        frames.encode_frame(frames.OPEN_BULK, 0, 0, b"\xc1"),
        frames.encode_frame(frames.OPEN_BULK, 0, 0, encode(OpenBulk(b"t" * 16, 0))) + b"more",
        b"",
    ],
)
async def test_bad_first_frames_cost_only_their_stream(first):
    async with Linked() as link:
        stream = await link.wire.open_stream()
        if first:
            await stream.write(first)
        await stream.finish()
        with contextlib.suppress(StreamReset):
            assert (await stream.read(1000))[4] == frames.ERROR
        ticket = await link.near.offer_bulk(b"fine", ttl_ms=60_000)
        assert await link.fetch(ticket) == b"fine"


@pytest.mark.parametrize("answer", [b"\xff" * 30, b"", frames.encode_frame(frames.PING, 0, 0, b"")])
async def test_a_server_that_answers_nonsense(answer):
    async with Linked() as link:
        served = asyncio.get_running_loop().create_future()

        async def nonsense(stream):
            await stream.write(answer)
            await stream.finish()
            served.set_result(None)

        link.near._shelf.serve = nonsense
        with pytest.raises(ProtocolViolation):
            await link.fetch(BulkTicket(b"t" * 16, 5, b"h" * 32))
        await served


async def test_an_offset_beyond_the_end_is_refused():
    async with Linked() as link:
        ticket = await link.near.offer_bulk(b"123", ttl_ms=60_000)
        stream = await link.wire.open_stream()
        request = encode(OpenBulk(ticket.token, 4))
        await stream.write(frames.encode_frame(frames.OPEN_BULK, 0, 0, request))
        answer = await stream.read(1000)
        assert answer[4] == frames.ERROR
        assert b"network.bulk_unknown" in answer
        await stream.finish()


async def test_a_fetch_that_is_cancelled_leaves_nothing_and_may_be_repeated():
    async with Linked() as link:
        ticket = await link.near.offer_bulk(CONTENT, ttl_ms=60_000)
        fetch = asyncio.ensure_future(link.fetch(ticket))
        while len(link.wire.streams) < 2:
            await asyncio.sleep(0)
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        assert await link.fetch(ticket) == CONTENT
