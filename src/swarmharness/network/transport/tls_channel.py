"""A channel is one TCP connection with TLS inside, carrying records to a sink.

Theory of operation. The TLS engine is driven here by hand, through memory buffers, under a
plain TCP transport of the event loop. asyncio has a TLS layer of its own; it is not used,
because it logs what strangers do wrong as our errors, changes its closing manners from version
to version, cannot stop a peer after so many handshake bytes, and cannot end one direction. Here
everything that goes wrong ends in exactly one call of `sink.lost`.

Bytes flow without tasks or copies that are not needed: the loop fills one receive buffer that
all channels of a node share (it is used only between two calls of the loop), TLS decrypts into
a second shared one, the record reader cuts views out of it, and the sink copies what it keeps.
A record goes out as one TLS write and one write to the socket.

A channel always reads. Pausing a sender is the work of credit, one layer up, so that the last
words of a connection can arrive at any time.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from typing import Protocol, cast, final

from swarmharness.kernel.errors import SwarmError
from swarmharness.network.client_proof import refusal_code
from swarmharness.network.errors import ProtocolViolation
from swarmharness.network.records import RecordReader, close_record, data_record
from swarmharness.network.transport.seam import CLOSE_PROTOCOL_VIOLATION
from swarmharness.network.transport.tls_limits import (
    SEND_HIGH_BYTES,
    SEND_LIMIT_BYTES,
    SEND_LOW_BYTES,
    TlsLimits,
)

RECEIVE_BYTES = 256 * 1024  # one system call takes what a socket buffer holds
_PLAIN_BYTES = 16 * 1024  # TLS hands out one record at a time, at most this long
_KEEPALIVE_S = (15, 5, 3)  # idle seconds, seconds between probes, probes
_TCP_INFO_BYTES = 72
_TCP_INFO_RTT_AT = 68  # struct tcp_info: tcpi_rtt, microseconds


class Sink(Protocol):
    """Who gets the records of a channel. Raising a `SwarmError` breaks the channel with it."""

    def opened(self) -> None:
        """TLS is up; nothing was received yet."""

    def record(self, kind: int, payload: memoryview) -> None:
        """The payload is valid during the call only."""

    def writable(self) -> None:
        """`is_blocked` became false."""

    def lost(self, error: Exception | None) -> None:
        """Once, and nothing follows; None when the peer ended the flow without a word."""


@final
class ReceiveBuffers:
    """Shared by all channels of one node."""

    def __init__(self) -> None:
        self.raw = memoryview(bytearray(RECEIVE_BYTES))
        self.plain = bytearray(_PLAIN_BYTES)
        self.plain_view = memoryview(self.plain)


@final
class TlsChannel(asyncio.BufferedProtocol):
    """One end of it; made by `create_connection` or by a listening server."""

    def __init__(
        self,
        context: ssl.SSLContext,
        sink: Sink,
        *,
        server_side: bool,
        buffers: ReceiveBuffers,
        limits: TlsLimits,
        admit: Callable[[TlsChannel], bool],
        gone: Callable[[TlsChannel], None],
    ) -> None:
        self.sink = sink
        self.remote: tuple[str, int] = ("", 0)
        self.is_blocked = False
        self._context = context
        self._server_side = server_side
        self._limits = limits
        self._admit = admit
        self._gone = gone
        self._buffers = buffers
        self._reader = RecordReader()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._transport: asyncio.Transport | None = None
        self._tls: ssl.SSLObject | None = None
        self._is_up = False
        self._is_over = False
        self._trusted = False
        self._stranger_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername") or ("", 0)
        self.remote = (peer[0], peer[1])
        if self._is_over:
            self._transport.abort()
            return
        if not self._admit(self):
            self._fail(None)
            return
        self._transport.set_write_buffer_limits(high=SEND_HIGH_BYTES, low=SEND_LOW_BYTES)
        _watch_the_path(transport.get_extra_info("socket"), self._limits.silence_ms)
        self._tls = self._context.wrap_bio(
            self._incoming, self._outgoing, server_side=self._server_side
        )
        self._set_timer(
            self._limits.handshake_ms,
            f"No complete handshake within {self._limits.handshake_ms} ms.",
        )
        if not self._server_side:
            self._guarded(self._shake_hands)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  the loop's signature
        return self._buffers.raw

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_over:
            return
        self._incoming.write(self._buffers.raw[:nbytes])
        if not self._trusted:
            self._stranger_bytes += nbytes
            if self._stranger_bytes > self._limits.handshake_bytes:
                self._fail(
                    ProtocolViolation(
                        f"The peer sent over {self._limits.handshake_bytes} bytes without proof."
                    )
                )
                return
        self._guarded(self._take_in)

    def eof_received(self) -> bool:
        self._fail(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc)
        self._set_timer(None)
        self._gone(self)

    def pause_writing(self) -> None:
        self.is_blocked = True
        if not self._is_over:
            self._set_timer(
                self._limits.write_stall_ms,
                f"The peer took no bytes for {self._limits.write_stall_ms} ms.",
            )

    def resume_writing(self) -> None:
        self.is_blocked = False
        if not self._is_over:
            self._set_timer(None)
            self.sink.writable()

    # What the layers above call.

    def trust(self) -> None:
        """The peer is authenticated: the handshake's clock and byte limit end."""
        self._trusted = True
        self._set_timer(None)

    def send(self, record: bytes) -> None:
        """Nothing happens once the channel is over: the sink has been told."""
        if self._is_over:
            return
        assert self._tls is not None
        assert self._transport is not None
        written = self._tls.write(record)
        if written < len(record):
            rest = memoryview(record)
            while written < len(record):
                written += self._tls.write(rest[written:])
        self._transport.write(self._outgoing.read())
        if self.is_blocked:
            self._check_backlog()

    def send_data(self, payload: bytes | memoryview) -> None:
        """One data record; the caller has checked size and credit."""
        self.send(data_record(payload))

    def finish(self, patience_ms: int) -> None:
        """What was sent is delivered, nothing more is read; the peer's end closes the rest."""
        if self._is_over:
            return
        self._is_over = True
        assert self._transport is not None
        self._set_timer(patience_ms)
        self._transport.write_eof()

    def abort(self) -> None:
        """At once, without a call of the sink."""
        self._is_over = True
        if self._transport is not None:
            self._transport.abort()

    def certificate(self) -> bytes | None:
        """The peer's, in DER; TLS has checked that the peer holds its key."""
        assert self._tls is not None
        return self._tls.getpeercert(binary_form=True)

    def application_protocol(self) -> str | None:
        """What both sides agreed on; TLS goes on without agreement, so the sinks ask."""
        assert self._tls is not None
        return self._tls.selected_alpn_protocol()

    def rtt_us(self) -> int | None:
        """The kernel's smoothed round trip time, where it tells."""
        if self._is_over or self._transport is None or not sys.platform.startswith("linux"):
            return None
        link = self._transport.get_extra_info("socket")
        info = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        (rtt_us,) = struct.unpack_from("=I", info, _TCP_INFO_RTT_AT)
        return int(rtt_us)

    # The engine.

    def _guarded(self, step: Callable[[], None]) -> None:
        """Whatever the peer's bytes provoke ends this channel only."""
        try:
            step()
        except ssl.SSLWantReadError:
            self._flush()
        except SwarmError as error:
            # A dialer that met an impostor tells it nothing, not even whom it wanted.
            speaks = self._is_up and (self._server_side or self._trusted)
            if speaks:
                code = CLOSE_PROTOCOL_VIOLATION if self._trusted else refusal_code(error)
                self.send(close_record(code, error.sentence))
            self._fail(error, linger=speaks)
        except ssl.SSLError as error:
            self._flush()  # the alert that TLS wrote for the peer
            self._fail(error, linger=True)

    def _shake_hands(self) -> None:
        assert self._tls is not None
        self._tls.do_handshake()
        self._is_up = True
        self._flush()
        self.sink.opened()

    def _take_in(self) -> None:
        if not self._is_up:
            self._shake_hands()
        tls, incoming, buffers = self._tls, self._incoming, self._buffers
        assert tls is not None
        while not self._is_over and (incoming.pending or tls.pending()):
            # The stub forgets that with a buffer the answer is a count.
            size = cast("int", tls.read(_PLAIN_BYTES, buffers.plain))
            if size == 0:
                self._fail(None)
                return
            self._deliver(buffers.plain_view[:size])
        if self._outgoing.pending:
            self._flush()

    def _deliver(self, plain: memoryview) -> None:
        """A record may end the channel, or replace the sink for those after it."""
        for kind, payload in self._reader.feed(plain):
            if self._is_over:
                return
            self.sink.record(kind, payload)

    def _flush(self) -> None:
        """TLS has words of its own: handshake, alerts, key updates."""
        if self._outgoing.pending and self._transport is not None:
            self._transport.write(self._outgoing.read())
        self._check_backlog()

    def _check_backlog(self) -> None:
        assert self._transport is not None
        waiting = self._transport.get_write_buffer_size()
        if waiting > SEND_LIMIT_BYTES:
            self._fail(ProtocolViolation(f"The peer left {waiting} bytes of answers unread."))

    def _fail(self, error: Exception | None, *, linger: bool = False) -> None:
        if self._is_over:
            return
        if linger:
            self.finish(self._limits.linger_ms)
        else:
            self.abort()
        self.sink.lost(error)

    def _set_timer(self, after_ms: int | None, sentence: str = "") -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if after_ms is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(after_ms / 1000, self._time_is_up, sentence)

    def _time_is_up(self, sentence: str) -> None:
        if not self._is_over:
            self._fail(TimeoutError(sentence))
        elif self._transport is not None:
            self._transport.abort()


def _watch_the_path(link: socket.socket, silence_ms: int) -> None:
    """A crashed machine says nothing: the kernel asks, and gives up within the silence limit."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform.startswith("linux"):
        idle_s, between_s, probes = _KEEPALIVE_S
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, between_s)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence_ms)
