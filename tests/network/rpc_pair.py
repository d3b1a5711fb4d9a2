"""Two ends of a perfect transport connection in one process, with hooks to break it."""

from __future__ import annotations

import asyncio
from collections import deque

from swarmharness.kernel.ids import NodeId
from swarmharness.network.errors import ConnectionLost, StreamReset
from swarmharness.network.transport.seam import CloseReason, PathInfo

HIGH_WATER_BYTES = 256 * 1024


class Pipe:
    """One direction of a stream."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.ended = False
        self.error: Exception | None = None
        self.is_stuck = False
        self._waiters: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def fail(self, error: Exception) -> None:
        if self.error is None and not (self.ended and not self.chunks):
            self.error = error
        self.wake()


class PairStream:
    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        self.incoming = incoming
        self.outgoing = outgoing

    async def read(self, max_bytes: int) -> bytes:
        pipe = self.incoming
        while not pipe.chunks:
            if pipe.error is not None:
                raise pipe.error
            if pipe.ended:
                return b""
            await pipe.wait()
        chunk = pipe.chunks.popleft()
        if len(chunk) > max_bytes:
            pipe.chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        pipe.size -= len(chunk)
        if pipe.size < HIGH_WATER_BYTES:
            pipe.wake()
        return chunk

    async def write(self, data: bytes | memoryview) -> None:
        pipe = self.outgoing
        while pipe.is_stuck or pipe.size > HIGH_WATER_BYTES:
            if pipe.error is not None:
                raise pipe.error
            await pipe.wait()
        if pipe.error is not None:
            raise pipe.error
        pipe.chunks.append(bytes(data))
        pipe.size += len(data)
        pipe.wake()

    async def finish(self) -> None:
        self.outgoing.ended = True
        self.outgoing.wake()

    async def reset(self, code: int) -> None:
        self.outgoing.fail(StreamReset("reset", data={"reset_code": code}))

    async def stop(self, code: int) -> None:
        self.incoming.fail(StreamReset("stopped", data={"reset_code": code}))


class PairConnection:
    """`other` is the far end."""

    def __init__(self, remote_id: NodeId, *, is_dialer: bool) -> None:
        self.remote_id = remote_id
        self.is_dialer = is_dialer
        self.other: PairConnection
        self.streams: list[PairStream] = []
        self._inbox: asyncio.Queue[PairStream | None] = asyncio.Queue()
        self._closed: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()

    async def open_stream(self, priority: int = 1) -> PairStream:
        if self._closed.done():
            raise ConnectionLost("closed")
        there, back = Pipe(), Pipe()
        mine, theirs = PairStream(back, there), PairStream(there, back)
        self.streams.append(mine)
        self.other.streams.append(theirs)
        self.other._inbox.put_nowait(theirs)
        return mine

    async def accept_stream(self) -> PairStream:
        stream = await self._inbox.get() if not self._closed.done() else None
        if stream is None:
            raise ConnectionLost("closed")
        return stream

    def path(self) -> PathInfo:
        return PathInfo(relayed=False, rtt_us=None, remote="pair")

    async def close(self, code: int, reason: str) -> None:
        self.end(CloseReason(code, reason, by_peer=False))
        self.other.end(CloseReason(code, reason, by_peer=True))

    def end(self, reason: CloseReason) -> None:
        if self._closed.done():
            return
        self._closed.set_result(reason)
        for stream in self.streams:
            stream.incoming.fail(ConnectionLost(f"closed: {reason.text}"))
            stream.outgoing.fail(ConnectionLost(f"closed: {reason.text}"))
        self._inbox.put_nowait(None)

    async def wait_closed(self) -> CloseReason:
        return await asyncio.shield(self._closed)


def connection_pair() -> tuple[PairConnection, PairConnection]:
    """The dialer's end and the acceptor's."""
    dialer = PairConnection(NodeId(b"\2" * 32), is_dialer=True)
    acceptor = PairConnection(NodeId(b"\1" * 32), is_dialer=False)
    dialer.other, acceptor.other = acceptor, dialer
    return dialer, acceptor
