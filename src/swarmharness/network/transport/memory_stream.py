"""A memory stream is one end of a stream between two nodes of one process.

Theory of operation. Bytes pass through three bounded places: what was written and not sent
(`WRITE_HIGH_BYTES`), what is under way or waits to be read (`WINDOW_BYTES`, which the reader
reopens by reading), and nothing else. A reader who stops therefore stops the writer after at
most the sum of both.

Each direction ends by itself: by `finish` (the reader sees every byte, then the end), by the
writer's `reset`, or by the reader's `stop`. When both directions have ended the connection
forgets the stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, final

from swarmharness.kernel.errors import InternalError, SwarmError
from swarmharness.network.errors import LimitExceeded, StreamReset
from swarmharness.network.transport.bell import Bell

WRITE_HIGH_BYTES = 256 * 1024  # a writer waits above this; asyncio's default is 64 KiB
WRITE_LOW_BYTES = 64 * 1024  # and goes on below this
WINDOW_BYTES = 256 * 1024  # under way or unread; the initial window of QUIC stacks
SEGMENT_BYTES = 16 * 1024  # one TLS record
CONTROL_BYTES = 16  # what a record without content costs the link
CANCELLED_CODE = 0
"""Sent when a write was cancelled half-way: the stream has a hole."""


@final
class Lane:
    """The records of one stream that are under way, in order."""

    __slots__ = ("last_arrival_us", "under_way")

    def __init__(self) -> None:
        self.under_way: deque[Callable[[], None]] = deque()
        self.last_arrival_us = 0


class StreamOwner(Protocol):
    """What a stream needs of its connection."""

    def failure(self) -> SwarmError | None: ...

    def reserve(self, count: int) -> None: ...

    def release(self, count: int) -> None: ...

    def forget(self, number: int) -> None: ...

    def send(self, number: int, lane: Lane, size: int, event: str, *arguments: Any) -> None: ...


@final
class MemoryStream:
    """One writer and one reader at a time."""

    def __init__(self, owner: StreamOwner, number: int) -> None:
        self.number = number
        self.lane = Lane()
        self._owner = owner
        self._bell = Bell()
        self._pending: deque[memoryview] = deque()
        self._pending_bytes = 0
        self._reserved_bytes = 0
        self._window_bytes = WINDOW_BYTES
        self._is_finishing = False
        self._has_finished = False
        self._send_code: int | None = None  # of our reset, or of the peer's stop
        self._unread: deque[memoryview] = deque()
        self._unreported_bytes = 0
        self._has_peer_finished = False
        self._receive_code: int | None = None  # of the peer's reset, or of our stop

    async def write(self, data: bytes | memoryview) -> None:
        whole = left = memoryview(bytes(data))
        self._check_writable()
        try:
            while left:
                if self._pending_bytes >= WRITE_HIGH_BYTES:
                    await self._until(self._may_write_again)
                    self._check_writable()
                size = min(len(left), WRITE_HIGH_BYTES - self._pending_bytes)
                self._owner.reserve(size)
                self._reserved_bytes += size
                self._pending.append(left[:size])
                self._pending_bytes += size
                left = left[size:]
                self._pump()
        except asyncio.CancelledError:
            await self.reset(CANCELLED_CODE)
            raise
        except LimitExceeded:
            if len(left) < len(whole):
                await self.reset(CANCELLED_CODE)
            raise

    async def finish(self) -> None:
        if self._is_send_over() or self._is_finishing:
            return
        if failure := self._owner.failure():
            raise failure
        self._is_finishing = True
        self._pump()

    async def reset(self, code: int) -> None:
        if self._is_send_over():
            return
        self._end_sending(code)
        self._send(CONTROL_BYTES, "peer_reset", code)
        self._forget_if_over()

    async def read(self, max_bytes: int) -> bytes:
        assert max_bytes > 0
        await self._until(self._has_news)
        if self._receive_code is not None:
            raise _reset_error(self._receive_code)
        if not self._unread:
            return b""
        piece = self._unread.popleft()
        if len(piece) > max_bytes:
            self._unread.appendleft(piece[max_bytes:])
            piece = piece[:max_bytes]
        self._unreported_bytes += len(piece)
        if self._unreported_bytes >= WINDOW_BYTES // 4:
            self._send(CONTROL_BYTES, "peer_has_read", self._unreported_bytes)
            self._unreported_bytes = 0
        self._forget_if_over()
        return bytes(piece)

    async def stop(self, code: int) -> None:
        if self._is_receive_over():
            return
        self._receive_code = code
        self._unread.clear()
        self._bell.ring()
        self._send(CONTROL_BYTES, "peer_stop", code)
        self._forget_if_over()

    # What arrives from the other end

    def peer_data(self, piece: memoryview) -> None:
        if self._receive_code is None:
            self._unread.append(piece)
            self._bell.ring()

    def peer_finish(self) -> None:
        self._has_peer_finished = True
        self._bell.ring()
        self._forget_if_over()

    def peer_reset(self, code: int) -> None:
        if self._is_receive_over():
            return
        self._receive_code = code
        self._unread.clear()
        self._bell.ring()
        self._forget_if_over()

    def peer_stop(self, code: int) -> None:
        if self._is_send_over():
            return
        self._end_sending(code)
        self._forget_if_over()

    def peer_has_read(self, count: int) -> None:
        self._window_bytes += count
        count = min(count, self._reserved_bytes)
        self._reserved_bytes -= count
        self._owner.release(count)
        self._pump()

    def connection_ended(self, *, by_us: bool) -> None:
        """What has arrived may still be read, except by whoever closed the connection."""
        self._pending.clear()
        self._pending_bytes = 0
        if by_us:
            self._unread.clear()
        self._bell.ring()

    @property
    def is_drained(self) -> bool:
        return not self._pending and not self.lane.under_way

    def _pump(self) -> None:
        """Send what the window allows."""
        while self._pending and self._window_bytes:
            size = min(len(self._pending[0]), SEGMENT_BYTES, self._window_bytes)
            piece = self._pending[0][:size]
            if size == len(self._pending[0]):
                self._pending.popleft()
            else:
                self._pending[0] = self._pending[0][size:]
            self._pending_bytes -= size
            self._window_bytes -= size
            self._send(size, "peer_data", piece)
        if self._may_write_again():
            self._bell.ring()
        if self._is_finishing and not self._pending and not self._is_send_over():
            self._has_finished = True
            self._send(CONTROL_BYTES, "peer_finish")
            self._forget_if_over()

    def _end_sending(self, code: int) -> None:
        self._send_code = code
        self._pending.clear()
        self._pending_bytes = 0
        self._bell.ring()

    def _check_writable(self) -> None:
        if self._send_code is not None:
            raise _reset_error(self._send_code)
        if failure := self._owner.failure():
            raise failure
        if self._is_finishing:
            raise InternalError("A stream was written to after it had been finished.")

    async def _until(self, is_true: Callable[[], bool]) -> None:
        while not is_true():
            if failure := self._owner.failure():
                raise failure
            await self._bell.wait()

    def _may_write_again(self) -> bool:
        return self._pending_bytes <= WRITE_LOW_BYTES or self._send_code is not None

    def _has_news(self) -> bool:
        return bool(self._unread) or self._has_peer_finished or self._receive_code is not None

    def _is_send_over(self) -> bool:
        return self._has_finished or self._send_code is not None

    def _is_receive_over(self) -> bool:
        at_end = self._has_peer_finished and not self._unread
        return at_end or self._receive_code is not None

    def _send(self, size: int, event: str, *arguments: Any) -> None:
        self._owner.send(self.number, self.lane, size, event, *arguments)

    def _forget_if_over(self) -> None:
        if self._is_send_over() and self._is_receive_over():
            self._owner.release(self._reserved_bytes)
            self._reserved_bytes = 0
            self._owner.forget(self.number)


def _reset_error(code: int) -> StreamReset:
    return StreamReset(
        f"The stream was abandoned with code {code}.",
        data={"reset_code": code},
    )
