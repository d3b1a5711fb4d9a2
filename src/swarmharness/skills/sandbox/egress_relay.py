"""The egress relay moves one permitted connection's bytes, counted, bounded and idle-limited.

Theory of operation. Two directions run side by side and end together: whichever ends the
connection raises `Ended`, which cancels the other. There is no buffer beyond one piece per
direction, so a reader that stops makes the sender stop. Progress in either direction restarts
the idle limit, because a long download is silent in the other direction.

A tunnel is opaque. A plain HTTP exchange is parsed on both sides by h11 and written anew: the
framing that the server sees is ours, never the guest's spelling of it, and one connection
carries one exchange, so nothing can be smuggled behind the first request.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, final

import h11
import msgspec

from swarmharness.skills.egress_log import EgressLog, Outcome
from swarmharness.skills.network_policy import Destination

PIECE_BYTES = 64 * 1024  # read at once; one per direction and connection is in memory

_HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"),
        *(b"proxy-authorization", b"proxy-authenticate", b"proxy-authentication-info"),
    }
)

Headers = Iterable[tuple[bytes, bytes]]


@final
class EgressLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one sandbox may take of the network at once."""

    connections: int = 32
    """Dialled at the same time; one page's worth of parallel requests for a browser."""
    waiting: int = 32
    """Accepted beyond that, only to be told so; more wait unaccepted in the kernel."""
    bytes_each_way: int = 64 * 1024 * 1024
    """Per connection and direction."""
    head_bytes: int = 16 * 1024
    """Request line and headers; common servers take 8 to 16 KiB."""
    head_seconds: float = 10.0
    """For the whole request head, so that a byte now and then does not hold a place."""
    resolve_seconds: float = 5.0
    """One lost question to a name server, asked again, fits in."""
    dial_seconds: float = 5.0
    """Per address tried."""
    idle_seconds: float = 60.0
    """Without a byte in either direction."""
    linger_seconds: float = 1.0
    """For a refused client to read why."""


@final
class Ended(Exception):
    """The connection is over; `outcome` is what the log should add, if anything."""

    def __init__(self, outcome: Outcome | None) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@final
class Relay:
    """One connection between the guest and the address that was dialled for it."""

    def __init__(
        self, guest: socket.socket, upstream: socket.socket, limits: EgressLimits, log: EgressLog
    ) -> None:
        self._guest = guest
        self._upstream = upstream
        self._limits = limits
        self._log = log
        self._out = 0
        self._in = 0
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.timeout(limits.idle_seconds)

    async def tunnel(self, early: bytes) -> Outcome | None:
        """After CONNECT; `early` is what the guest sent without waiting for the answer."""
        return await self._both(self._pump_out(early), self._pump_in())

    async def exchange(
        self, server: h11.Connection, request: h11.Request, destination: Destination, path: bytes
    ) -> Outcome | None:
        """One request and its reply; `server` speaks to the guest and has read the head."""
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limits.head_bytes)
        host = str(destination).removesuffix(":80").encode()
        headers = [(b"host", host), *_end_to_end(request.headers, drop=b"host")]
        head = h11.Request(method=request.method, target=path, headers=headers)
        return await self._both(
            self._send_request(server, client, head), self._send_reply(server, client)
        )

    async def _both(self, *directions: Coroutine[Any, Any, None]) -> Outcome | None:
        outcomes: list[Outcome | None] = []
        try:
            async with self._idle, asyncio.TaskGroup() as group:
                for direction in directions:
                    group.create_task(direction)
        except* Ended as endings:
            outcomes += [e.outcome for e in endings.exceptions if isinstance(e, Ended)]
        except* TimeoutError:
            outcomes.append(Outcome.IDLE_TIMEOUT)
        except* OSError:
            outcomes.append(None)  # a side hung up, which is how connections end
        return next(filter(None, outcomes), None)

    async def _send_up(self, data: bytes | None) -> None:
        """Counted before it is sent: the limit holds to the byte."""
        if not data:
            return
        self._out += len(data)
        self._log.bytes_out += len(data)
        self._check(self._out)
        await self._loop.sock_sendall(self._upstream, data)
        self._progress()

    async def _read_down(self) -> bytes:
        data = await self._loop.sock_recv(self._upstream, PIECE_BYTES)
        self._in += len(data)
        self._log.bytes_in += len(data)
        self._check(self._in)
        self._progress()
        return data

    async def _send_down(self, data: bytes | None) -> None:
        if data:
            await self._loop.sock_sendall(self._guest, data)
            self._progress()

    async def _read_up(self) -> bytes:
        data = await self._loop.sock_recv(self._guest, PIECE_BYTES)
        self._progress()
        return data

    def _check(self, total: int) -> None:
        if total > self._limits.bytes_each_way:
            raise Ended(Outcome.BYTE_LIMIT)

    def _progress(self) -> None:
        """A limit that has just struck cannot be moved any more; its cancellation is coming."""
        if not self._idle.expired():
            self._idle.reschedule(self._loop.time() + self._limits.idle_seconds)

    async def _pump_out(self, early: bytes) -> None:
        await self._send_up(early)
        while data := await self._read_up():
            await self._send_up(data)
        self._upstream.shutdown(socket.SHUT_WR)

    async def _pump_in(self) -> None:
        while data := await self._read_down():
            await self._send_down(data)
        self._guest.shutdown(socket.SHUT_WR)

    async def _send_request(
        self, server: h11.Connection, client: h11.Connection, head: h11.Request
    ) -> None:
        try:
            await self._send_up(client.send(head))
            while True:
                event = await next_event(server, self._read_up)
                if isinstance(event, h11.Data):
                    await self._send_up(client.send(event))
                elif isinstance(event, h11.EndOfMessage):
                    await self._send_up(client.send(h11.EndOfMessage()))
                    return
                else:
                    raise Ended(Outcome.MALFORMED)
        except h11.ProtocolError:
            raise Ended(Outcome.MALFORMED) from None
        except OSError:
            return  # a server that refuses a body hangs up; its reply says why

    async def _send_reply(self, server: h11.Connection, client: h11.Connection) -> None:
        try:
            while True:
                event = await next_event(client, self._read_down)
                if isinstance(event, h11.InformationalResponse):
                    if server.they_are_waiting_for_100_continue:
                        await self._send_down(server.send(event))
                elif isinstance(event, h11.Response):
                    reply = h11.Response(
                        status_code=event.status_code,
                        reason=event.reason,
                        headers=_end_to_end(event.headers),
                    )
                    await self._send_down(server.send(reply))
                elif isinstance(event, h11.Data):
                    await self._send_down(server.send(event))
                elif isinstance(event, h11.EndOfMessage):
                    await self._send_down(server.send(h11.EndOfMessage()))
                    raise Ended(None)
                else:
                    raise Ended(Outcome.BROKEN_REPLY)
        except h11.ProtocolError:
            raise Ended(Outcome.BROKEN_REPLY) from None


async def next_event(
    side: h11.Connection, read: Callable[[], Coroutine[Any, Any, bytes]]
) -> h11.Event:
    """The next whole event; h11 refuses a head that outgrows its limit."""
    while True:
        event = side.next_event()
        if event is h11.NEED_DATA:
            side.receive_data(await read())
        elif event is h11.PAUSED:
            return h11.ConnectionClosed()
        else:
            assert not isinstance(event, type), "h11 has two sentinels, and both are handled"
            return event


def _end_to_end(headers: Headers, drop: bytes = b"") -> list[tuple[bytes, bytes]]:
    """Without what concerns one hop only; a length beside chunks is dropped, chunks win."""
    pairs = list(headers)
    named = {
        token.strip().lower()
        for name, value in pairs
        if name == b"connection"
        for token in value.split(b",")
    }
    gone = _HOP_BY_HOP | (named - {b"transfer-encoding", b"content-length"}) | {drop}
    if any(name == b"transfer-encoding" for name, _ in pairs):
        gone |= {b"content-length"}
    return [*((n, v) for n, v in pairs if n not in gone), (b"connection", b"close")]
