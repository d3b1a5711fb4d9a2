"""A `tls` stream is one channel's data both ways, each way ended by itself and paced by credit.

Theory of operation. The sender may have as many bytes under way as the receiver granted; a
write beyond that waits. So a stopped reader stops the writer at the size of the window, while
the channel itself stays readable. One reader and one writer at a time is the rule of the seam;
a second one is our own bug and asserted.

A stream ends when both directions ended and nothing is left to read. Errors are kept as
recipes, not as objects: each waiter gets its own, with its own traceback.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import final

from swarmharness.kernel.errors import SwarmError
from swarmharness.network.errors import ProtocolViolation, StreamReset
from swarmharness.network.receive_window import (
    FIRST_WINDOW_BYTES,
    WINDOW_BYTES_MAX,
    ReceiveWindow,
    WindowBudget,
)
from swarmharness.network.records import (
    DATA_BYTES_MAX,
    RecordKind,
    number_in,
    number_record,
    record,
)
from swarmharness.network.transport.tls_channel import TlsChannel

RESET_CANCELLED = 0xFFFF_FFFE
"""The writer was cancelled half-way and the stream has a hole."""

_PILE_BYTES = 16 * 1024  # unread small records are piled up to this size
_SMALL_BYTES = 4 * 1024  # records below this are: an object each could cost forty times their size

ErrorRecipe = Callable[[], SwarmError]


@final
class TlsStream:
    """Implements the seam's `Stream`; its owner hands it the records of its channel."""

    def __init__(
        self, channel: TlsChannel, budget: WindowBudget, ended: Callable[[TlsStream], None]
    ) -> None:
        self.channel = channel
        self._ended = ended
        self._is_over = False
        self._credit = FIRST_WINDOW_BYTES
        self._send_ended = False
        self._send_error: ErrorRecipe | None = None
        self._writer: asyncio.Future[None] | None = None
        self._window = ReceiveWindow(budget)
        self._chunks: deque[bytes | bytearray | memoryview] = deque()
        self._receive_ended = False
        self._receive_error: ErrorRecipe | None = None
        self._stopped = False
        self._reader: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes], None] | None = None

    # The seam.

    async def read(self, max_bytes: int) -> bytes:
        assert max_bytes > 0
        chunks = self._chunks
        while not chunks:
            if self._receive_error is not None:
                raise self._receive_error()
            if self._receive_ended:
                return b""
            assert self._reader is None, "one reader at a time"
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._unread(max_bytes)
        if not self._receive_ended:
            credit = self._window.consumed(len(data))
            if credit:
                self.channel.send(number_record(RecordKind.CREDIT, credit))
        elif not chunks:
            self._end_if_done()
        return data

    async def write(self, data: bytes | memoryview) -> None:
        if not self.try_write(data):
            await self._write_in_pieces(memoryview(data).cast("B"))

    def try_write(self, data: bytes | memoryview) -> bool:
        """All of it now, or nothing."""
        size = len(data)
        if (
            size > self._credit
            or not 0 < size <= DATA_BYTES_MAX
            or self._send_error is not None
            or self._send_ended
            or self.channel.is_blocked
        ):
            return False
        self._credit -= size
        self.channel.send_data(data)
        return True

    def divert(self, sink: Callable[[bytes], None]) -> None:
        """What arrives goes to the sink from now on; it must not raise."""
        assert self._reader is None, "one reader at a time"
        self._sink = sink
        while self._chunks:
            self._hand_over(self._unread(WINDOW_BYTES_MAX))

    async def finish(self) -> None:
        if not self._send_ended:
            self._send_ended = True
            self.channel.send(record(RecordKind.FIN))
            self._end_if_done()

    async def reset(self, code: int) -> None:
        self._reset(code, f"This side reset the stream with code {code}.")

    async def stop(self, code: int) -> None:
        if self._stopped or self._receive_ended:
            self._chunks.clear()
            self._end_if_done()
            return
        self._stopped = True
        self._chunks.clear()
        self._receive_error = _reset_error(code, f"This side stopped reading with code {code}.")
        self.channel.send(number_record(RecordKind.STOP, code))
        _wake(self._reader)

    # What the owner calls.

    def grant_at_once(self) -> None:
        """Widen the first small window before anything has arrived."""
        credit = self._window.widen()
        if credit:
            self.channel.send(number_record(RecordKind.CREDIT, credit))

    def record(self, kind: int, payload: memoryview) -> None:
        """One of the stream kinds; anything else breaks the rules of a stream's channel."""
        if kind == RecordKind.DATA:
            self._take_data(payload)
        elif kind == RecordKind.CREDIT:
            self._credit += number_in(payload)
            if self._credit > WINDOW_BYTES_MAX:
                raise ProtocolViolation(f"The peer granted {self._credit} bytes of credit.")
            self.writable()
        elif kind == RecordKind.FIN:
            self._end_receiving(None)
        elif kind == RecordKind.RESET:
            code = number_in(payload)
            self._chunks.clear()
            self._end_receiving(_reset_error(code, f"The peer reset the stream, code {code}."))
        elif kind == RecordKind.STOP:
            code = number_in(payload)
            self._reset(code, f"The peer stopped reading, code {code}.")
        else:
            raise ProtocolViolation(f"A record of kind {kind} does not belong into a stream.")

    def writable(self) -> None:
        """The channel or the peer takes bytes again."""
        _wake(self._writer)

    def lost(self, error: ErrorRecipe, *, drop_unread: bool = False) -> None:
        """The channel or the connection is gone: both directions end with this error.

        What arrived in whole before stays readable, unless this side itself closed.
        """
        if drop_unread:
            self._chunks.clear()
        if not self._receive_ended:
            self._receive_ended = True
            self._receive_error = self._receive_error or error
        elif drop_unread:
            self._receive_error = self._receive_error or error
        self._send_ended = True
        self._send_error = self._send_error or error
        _wake(self._reader)
        _wake(self._writer)
        self._end_if_done()

    # Receiving.

    def _take_data(self, payload: memoryview) -> None:
        if self._receive_ended:
            raise ProtocolViolation("The peer sent data after the end of its stream.")
        if not self._window.admits(len(payload)):
            raise ProtocolViolation("The peer sent more data than it had credit for.")
        if self._stopped:
            return
        if self._sink is not None:
            self._hand_over(bytes(payload))
            return
        self._pile(payload)
        if self._reader is not None:
            _wake(self._reader)

    def _hand_over(self, data: bytes) -> None:
        assert self._sink is not None
        self._sink(data)
        credit = 0 if self._receive_ended else self._window.consumed(len(data))
        if credit:
            self.channel.send(number_record(RecordKind.CREDIT, credit))

    def _pile(self, payload: memoryview) -> None:
        if self._chunks and len(payload) < _SMALL_BYTES:
            last = self._chunks[-1]
            if isinstance(last, bytearray) and len(last) + len(payload) <= _PILE_BYTES:
                last += payload
            else:
                self._chunks.append(bytearray(payload))
        else:
            self._chunks.append(bytes(payload))

    def _end_receiving(self, error: ErrorRecipe | None) -> None:
        if self._receive_ended:
            raise ProtocolViolation("The peer ended its stream twice.")
        self._receive_ended = True
        self._receive_error = self._receive_error or error
        _wake(self._reader)
        self._end_if_done()

    def _unread(self, max_bytes: int) -> bytes:
        """Small records that arrived together are read together."""
        chunks = self._chunks
        first = chunks.popleft()
        if len(first) > max_bytes:
            chunks.appendleft(memoryview(first)[max_bytes:])
            return bytes(first[:max_bytes])
        if not chunks or len(first) + len(chunks[0]) > max_bytes:
            return bytes(first)
        parts, size = [first], len(first)
        while chunks and size + len(chunks[0]) <= max_bytes:
            parts.append(chunks.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    # Sending.

    async def _write_in_pieces(self, data: memoryview) -> None:
        at, size = 0, len(data)
        try:
            while True:
                if self._send_error is not None:
                    raise self._send_error()
                if self._send_ended:
                    raise StreamReset("This side has already finished the stream.")
                if at == size:
                    return
                if self._credit == 0 or self.channel.is_blocked:
                    await self._wait_until_writable()
                    continue
                stop = min(size, at + self._credit, at + DATA_BYTES_MAX)
                self._credit -= stop - at
                self.channel.send_data(data[at:stop])
                at = stop
        except asyncio.CancelledError:
            self._reset(RESET_CANCELLED, "A write was cancelled half-way.")
            raise

    async def _wait_until_writable(self) -> None:
        assert self._writer is None, "one writer at a time"
        self._writer = asyncio.get_running_loop().create_future()
        try:
            await self._writer
        finally:
            self._writer = None

    def _reset(self, code: int, sentence: str) -> None:
        if self._send_ended:
            return
        self._send_ended = True
        self._send_error = _reset_error(code, sentence)
        self.channel.send(number_record(RecordKind.RESET, code))
        _wake(self._writer)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._is_over or not (self._send_ended and self._receive_ended) or self._chunks:
            return
        self._is_over = True
        self._window.release()
        self._ended(self)


def _reset_error(code: int, sentence: str) -> ErrorRecipe:
    return lambda: StreamReset(sentence, data={"reset_code": code})


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
