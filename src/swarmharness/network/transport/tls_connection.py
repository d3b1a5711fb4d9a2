"""A `tls` connection is one primary channel and the further channels attached to it.

Theory of operation. The primary channel carries the first stream that the dialer opens (the
remote calls run there) and the few words about the connection itself. Each further stream is a
channel of its own, so that bulk never stands in front of calls, and proves both ids again. Only
the dialer knows a way to the other side, so it makes every channel: for a stream of its own it
asks the acceptor for a token, for the acceptor's stream it receives one unasked.

When the primary ends, everything ends, with one reason for all who wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, final

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import NodeId, node_id_short
from swarmharness.network.errors import (
    ConnectionLost,
    DialTimeout,
    LimitExceeded,
    ProtocolViolation,
    Unreachable,
)
from swarmharness.network.receive_window import WindowBudget
from swarmharness.network.records import (
    TOKEN_BYTES,
    RecordKind,
    attach_record,
    close_in,
    close_record,
    number_in,
    number_record,
    record,
)
from swarmharness.network.transport.inbox import Inbox
from swarmharness.network.transport.seam import (
    CLOSE_LOST,
    CLOSE_PROTOCOL_VIOLATION,
    CloseReason,
    PathInfo,
)
from swarmharness.network.transport.tls_channel import TlsChannel
from swarmharness.network.transport.tls_limits import TlsLimits
from swarmharness.network.transport.tls_stream import TlsStream

_REFUSED_TOKEN = b"\0" * TOKEN_BYTES
_HEADER_BYTES = 4
_STREAM_KINDS = frozenset(
    (
        RecordKind.DATA,
        RecordKind.CREDIT,
        RecordKind.FIN,
        RecordKind.RESET,
        RecordKind.STOP,
    )
)


class ConnectionHome(Protocol):
    """What a connection needs from its transport."""

    limits: TlsLimits

    def issue_token(self, connection: TlsConnection, request: int | None) -> bytes:
        """Acceptor: `request` is None for a stream that this side opens."""

    def revoke_token(self, token: bytes) -> None: ...

    async def attach(self, connection: TlsConnection, token: bytes) -> TlsChannel:
        """Dialer: one more authenticated channel to where the primary goes."""

    def connection_over(self, connection: TlsConnection) -> None: ...


@final
class TlsConnection:
    """Implements the seam's `Connection`; also the sink of its primary channel."""

    def __init__(
        self, home: ConnectionHome, channel: TlsChannel, remote_id: NodeId, *, is_dialer: bool
    ) -> None:
        self.remote_id = remote_id
        self.is_dialer = is_dialer
        self._home = home
        self._primary = channel
        self._first: TlsStream | None = None
        self._budget = WindowBudget()
        self._streams: set[TlsStream] = set()
        self._arrived: Inbox[TlsStream] = Inbox()
        self._reason: CloseReason | None = None
        self._closed = asyncio.get_running_loop().create_future()
        self._last_request = 0
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._promised: dict[bytes, asyncio.Future[TlsStream]] = {}
        self._attaching: set[asyncio.Task[None]] = set()
        self._attach_slots = asyncio.Semaphore(home.limits.attaching)

    # The seam.

    async def open_stream(self, priority: int = 1) -> TlsStream:  # noqa: ARG002  the kernel shares
        self._raise_if_over()
        limit = self._home.limits.streams
        if self._stream_count() >= limit:
            raise LimitExceeded(f"The connection to {self._name} already carries {limit} streams.")
        if not self.is_dialer:
            return await self._have_attached()
        if self._first is None:
            self._first = self._adopt(self._primary)
            self._primary.send(record(RecordKind.OPEN))
            self._first.grant_at_once()
            return self._first
        return await self._attach_own()

    async def accept_stream(self) -> TlsStream:
        return await self._arrived.get()

    def path(self) -> PathInfo:
        host, port = self._primary.remote
        return PathInfo(
            relayed=False, rtt_us=self._primary.rtt_us(), remote=f"tls://{_bracketed(host)}:{port}"
        )

    async def close(self, code: int, reason: str) -> None:
        if self._reason is None:
            self._primary.send(close_record(code, reason))
            self._primary.finish(self._home.limits.linger_ms)
            self._end(CloseReason(code, reason, by_peer=False))
        await asyncio.gather(*self._attaching, return_exceptions=True)

    async def wait_closed(self) -> CloseReason:
        return await asyncio.shield(self._closed)

    # What the primary channel calls.

    def opened(self) -> None:
        raise AssertionError("a connection exists only after the handshake")

    def record(self, kind: int, payload: memoryview) -> None:
        if kind in _STREAM_KINDS:
            if self._first is None:
                raise ProtocolViolation("The peer used its first stream before opening it.")
            self._first.record(kind, payload)
        elif kind == RecordKind.CLOSE:
            code, text = close_in(payload)
            self._primary.finish(self._home.limits.linger_ms)
            self._end(CloseReason(code, text, by_peer=True))
        elif kind == RecordKind.OPEN and not self.is_dialer and self._first is None:
            self._first = self._adopt(self._primary)
            self._first.grant_at_once()
            self._arrived.put(self._first)
        elif kind == RecordKind.ASK and not self.is_dialer:
            self._answer(number_in(payload))
        elif kind == RecordKind.ATTACH and self.is_dialer:
            self._take_token(number_in(payload), bytes(payload[_HEADER_BYTES:]))
        elif kind == RecordKind.ABANDON and not self.is_dialer:
            self._abandoned(bytes(payload))
        else:
            raise ProtocolViolation(f"A record of kind {kind} is out of place.")

    def writable(self) -> None:
        if self._first is not None:
            self._first.writable()

    def lost(self, error: Exception | None) -> None:
        if isinstance(error, SwarmError):
            self._end(CloseReason(CLOSE_PROTOCOL_VIOLATION, error.sentence, by_peer=False))
        else:
            text = f"Lost: {error}" if error else "The peer went away without a word."
            self._end(CloseReason(CLOSE_LOST, text, by_peer=None))

    # Attaching, the dialer's side.

    async def _attach_own(self) -> TlsStream:
        async with self._attach_slots:
            self._raise_if_over()
            self._last_request += 1
            request = self._last_request
            answer = asyncio.get_running_loop().create_future()
            self._asked[request] = answer
            try:
                self._primary.send(number_record(RecordKind.ASK, request))
                async with asyncio.timeout(self._home.limits.attach_ms / 1000):
                    token = await answer
            except TimeoutError:
                raise DialTimeout(
                    f"{self._name} gave no leave for another stream within "
                    f"{self._home.limits.attach_ms} ms."
                ) from None
            finally:
                del self._asked[request]
            if token == _REFUSED_TOKEN:
                raise LimitExceeded(f"{self._name} takes no more streams on this connection.")
            return self._attached(await self._home.attach(self, token))

    def _take_token(self, request: int, token: bytes) -> None:
        if request:
            answer = self._asked.get(request)
            if answer is not None and not answer.done():
                answer.set_result(token)
            return
        if self._stream_count() >= self._home.limits.streams:
            self._primary.send(record(RecordKind.ABANDON, token))
            return
        task = asyncio.get_running_loop().create_task(self._attach_for_peer(token))
        self._attaching.add(task)
        task.add_done_callback(self._attaching.discard)

    async def _attach_for_peer(self, token: bytes) -> None:
        try:
            async with self._attach_slots:
                stream = self._attached(await self._home.attach(self, token))
        except SwarmError:
            self._primary.send(record(RecordKind.ABANDON, token))
        else:
            self._arrived.put(stream)

    def _attached(self, channel: TlsChannel) -> TlsStream:
        if self._reason is not None:
            channel.abort()
            raise self._error()
        sink = channel.sink
        assert isinstance(sink, AttachedSink)
        return sink.stream

    # Attaching, the acceptor's side.

    async def _have_attached(self) -> TlsStream:
        token = self._home.issue_token(self, None)
        arrival: asyncio.Future[TlsStream] = asyncio.get_running_loop().create_future()
        self._promised[token] = arrival
        try:
            self._primary.send(attach_record(0, token))
            async with asyncio.timeout(self._home.limits.attach_ms / 1000):
                return await arrival
        except TimeoutError:
            raise DialTimeout(
                f"{self._name} attached no channel within {self._home.limits.attach_ms} ms."
            ) from None
        except asyncio.CancelledError:
            if arrival.done() and not arrival.cancelled() and arrival.exception() is None:
                arrival.result().channel.abort()
                arrival.result().lost(self._error)
            raise
        finally:
            del self._promised[token]
            self._home.revoke_token(token)

    def _answer(self, request: int) -> None:
        token = _REFUSED_TOKEN
        if self._stream_count() < self._home.limits.streams:
            try:
                token = self._home.issue_token(self, request)
            except LimitExceeded:
                token = _REFUSED_TOKEN
        self._primary.send(attach_record(request, token))

    def _abandoned(self, token: bytes) -> None:
        arrival = self._promised.get(token)
        self._home.revoke_token(token)
        if arrival is not None and not arrival.done():
            arrival.set_exception(Unreachable(f"{self._name} could not attach another channel."))

    # Both sides.

    def bind(self, channel: TlsChannel, token: bytes, *, mine: bool) -> None:
        """A new channel has proved itself; `mine` when this acceptor opens the stream."""
        sink = self._attach_sink(channel)
        if not mine:
            self._arrived.put(sink.stream)
            return
        arrival = self._promised.get(token)
        if arrival is None or arrival.done():
            channel.abort()
            sink.stream.lost(self._error)
        else:
            arrival.set_result(sink.stream)

    def bind_own(self, channel: TlsChannel) -> None:
        """The dialer's end of the same."""
        self._attach_sink(channel)

    def _attach_sink(self, channel: TlsChannel) -> AttachedSink:
        sink = AttachedSink(self._adopt(channel), self._channel_lost)
        channel.sink = sink
        sink.stream.grant_at_once()
        return sink

    @property
    def is_over(self) -> bool:
        return self._reason is not None

    @property
    def remote_host(self) -> str:
        return self._primary.remote[0]

    @property
    def _name(self) -> str:
        return node_id_short(self.remote_id)

    def _adopt(self, channel: TlsChannel) -> TlsStream:
        stream = TlsStream(channel, self._budget, self._stream_ended)
        self._streams.add(stream)
        return stream

    def _stream_ended(self, stream: TlsStream) -> None:
        self._streams.discard(stream)
        if stream.channel is not self._primary:
            stream.channel.finish(self._home.limits.write_stall_ms)

    def _stream_count(self) -> int:
        return len(self._streams) + len(self._asked) + len(self._promised) + len(self._attaching)

    def _end(self, reason: CloseReason) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        self._closed.set_result(reason)
        untaken = self._arrived.close(self._error)
        for task in self._attaching:
            task.cancel()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(self._error())
        for arrival in self._promised.values():
            if not arrival.done():
                arrival.set_exception(self._error())
        drop = reason.by_peer is False
        for stream in list(self._streams):
            if stream.channel is not self._primary:
                stream.channel.finish(self._home.limits.linger_ms)
            stream.lost(self._error, drop_unread=drop or stream in untaken)
        self._home.connection_over(self)

    def _raise_if_over(self) -> None:
        if self._reason is not None:
            raise self._error()

    def _error(self) -> SwarmError:
        reason = self._reason
        who = self._name
        if reason is None:
            return ConnectionLost(f"A channel to {who} was given up.")
        ended_by = {True: "by the peer", False: "by this node", None: "without a word"}
        return ConnectionLost(
            f"The connection to {who} was closed {ended_by[reason.by_peer]}: {reason.text}",
            data={"close_code": reason.code},
        )

    def _channel_lost(self, stream: TlsStream, error: Exception | None) -> None:
        if isinstance(error, SwarmError) and self._reason is None:
            self._primary.send(close_record(CLOSE_PROTOCOL_VIOLATION, error.sentence))
            self._primary.finish(self._home.limits.linger_ms)
            self._end(CloseReason(CLOSE_PROTOCOL_VIOLATION, error.sentence, by_peer=False))
        sentence = f"One stream's channel to {self._name} was lost: {error or 'it ended early'}."
        stream.lost(self._error if self.is_over else lambda: ConnectionLost(sentence))


@final
class AttachedSink:
    """Takes the records of an attached channel to its one stream."""

    def __init__(
        self, stream: TlsStream, lost: Callable[[TlsStream, Exception | None], None]
    ) -> None:
        self.stream = stream
        self._lost = lost

    def opened(self) -> None:
        raise AssertionError("a stream exists only after the handshake")

    def record(self, kind: int, payload: memoryview) -> None:
        self.stream.record(kind, payload)

    def writable(self) -> None:
        self.stream.writable()

    def lost(self, error: Exception | None) -> None:
        self._lost(self.stream, error)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
