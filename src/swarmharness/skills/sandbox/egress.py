"""The egress proxy is the only way out of a sandbox, and asks the network policy at every step.

Theory of operation. The sandbox's bootstrap listens on its own loopback, inside an empty network
namespace, and hands the listening socket out. This side accepts on it: the listener is the
identity, so there is no password and no way to speak as another sandbox. What arrives is hostile.

Only two requests exist: CONNECT, and HTTP with an absolute `http://` target. For each:
name and port on the list → resolve once → keep the addresses that may be dialled → dial those
very addresses → relay. Every step that says no answers with the reason (403 for the policy) and
writes it to the egress log. The host never opens UDP, never speaks TLS and never follows a
redirect for the guest.

A proxy has a bounded number of places. Beyond the places for connections, as many again are
accepted only to be told that there are too many; after those the kernel's backlog holds the rest.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import final

import h11
import msgspec

from swarmharness.skills.egress_log import EgressLog, Outcome
from swarmharness.skills.errors import SandboxProtocolBroken
from swarmharness.skills.network_policy import (
    Address,
    Destination,
    NetworkPolicy,
    parse_authority,
)
from swarmharness.skills.sandbox.egress_relay import (
    PIECE_BYTES,
    EgressLimits,
    Relay,
    next_event,
)

LISTENER_MARK = b"L"  # the guest's `egress.py` sends it with the descriptor
RESOLVER_THREADS = 2  # per sandbox: names that resolve slowly delay only their own skill
ACCEPT_PAUSE_SECONDS = 1.0  # when the node is out of descriptors
HTTP_PORT = 80

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]

_STATUS: dict[Outcome, tuple[int, str]] = {
    Outcome.HOST_UNLISTED: (403, "This host is not in the skill's granted network.allow."),
    Outcome.PORT_UNLISTED: (403, "This port of the host is not in the granted network.allow."),
    Outcome.ADDRESS_PRIVATE: (403, "The name leads to an address that is not public."),
    Outcome.NAME_UNRESOLVED: (502, "The name has no address at the moment."),
    Outcome.UNREACHABLE: (502, "The host did not accept the connection."),
    Outcome.BROKEN_REPLY: (502, "The host's reply is not HTTP."),
    Outcome.TOO_MANY_CONNECTIONS: (503, "This skill has too many connections open."),
    Outcome.MALFORMED: (400, "Only CONNECT host:port and http://host/ requests are served."),
    Outcome.HEAD_TIMEOUT: (408, "The request did not arrive in time."),
    Outcome.BYTE_LIMIT: (413, "The connection carried more than it may."),
    Outcome.IDLE_TIMEOUT: (504, "Nothing was heard for too long."),
}


@final
class _Refused(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


async def receive_listener(control: socket.socket) -> socket.socket:
    """The guest's listening socket, read before anything else from the control socket.

    Takes exactly one byte, so that what follows stays for the reader of the control channel.
    That reader uses `recv`: a descriptor smuggled in later is dropped by the kernel.
    """
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(control, _wake, readable)
    try:
        await readable
    finally:
        loop.remove_reader(control)
    mark, descriptors, flags, _ = socket.recv_fds(control, 1, 1)
    if mark == LISTENER_MARK and len(descriptors) == 1 and not flags & socket.MSG_CTRUNC:
        listener = _as_listener(descriptors.pop())
        if listener is not None:
            return listener
    for unwanted in descriptors:
        os.close(unwanted)
    raise SandboxProtocolBroken("The sandbox did not hand out its listening socket.")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _as_listener(descriptor: int) -> socket.socket | None:
    """Takes over the descriptor: anything that does not listen for TCP is closed."""
    try:
        candidate = socket.socket(fileno=descriptor)
    except OSError:  # not a socket at all
        os.close(descriptor)
        return None
    is_stream = candidate.family == socket.AF_INET and candidate.type == socket.SOCK_STREAM
    if is_stream and candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        candidate.set_inheritable(False)  # sandboxes are our children too
        candidate.settimeout(0)
        return candidate
    candidate.close()
    return None


@final
class SystemResolver:
    """The operating system's answer, on threads of its own so that nothing else waits for it."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="egress-resolver")

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [ip_address(sockaddr[0]) for *_, sockaddr in found]

    def close(self) -> None:
        """Does not wait: a resolver that hangs would hold up the node's end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@final
class _Visitor:
    """One accepted connection of the guest, as far as it has been read."""

    def __init__(self, guest: socket.socket, head_bytes: int) -> None:
        self.socket = guest
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=head_bytes)
        self.target = "?"
        self.wants_body = True  # a reply to HEAD has none

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.socket, PIECE_BYTES)

    async def send(self, *pieces: bytes | None) -> None:
        data = b"".join(filter(None, pieces))
        await asyncio.get_running_loop().sock_sendall(self.socket, data)


@final
class EgressProxy:
    """Serves one sandbox. `resolve` replaces the operating system's resolver."""

    def __init__(
        self,
        policy: NetworkPolicy,
        log: EgressLog,
        *,
        limits: EgressLimits | None = None,
        resolve: Resolver | None = None,
    ) -> None:
        self._policy = policy
        self._log = log
        self._limits = limits or EgressLimits()
        self._system = SystemResolver()  # starts no thread before it is asked
        self._resolve: Resolver = resolve or self._system
        self._places = asyncio.Semaphore(self._limits.connections + self._limits.waiting)
        self._dialled = 0

    async def serve(self, listener: socket.socket) -> None:
        """Until cancelled; closes the listener and every connection on the way out."""
        listener.settimeout(0)
        try:
            with listener:
                async with asyncio.TaskGroup() as group:
                    while True:
                        await self._places.acquire()
                        guest = await _accept(listener)
                        visit = group.create_task(self._visit(guest))
                        visit.add_done_callback(partial(self._leave, guest))
        finally:
            self._system.close()

    def _leave(self, guest: socket.socket, _visit: asyncio.Task[None]) -> None:
        """As a callback, because a visit cancelled before its first step runs no `finally`."""
        guest.close()
        self._places.release()

    async def _visit(self, guest: socket.socket) -> None:
        visitor = _Visitor(guest, self._limits.head_bytes)
        try:
            try:
                await self._serve_one(visitor)
            except _Refused as refused:
                self._log.note(visitor.target, refused.outcome)
                await self._refuse(visitor, refused.outcome)
        except OSError:
            return  # the guest hung up; nobody is left to tell

    async def _serve_one(self, visitor: _Visitor) -> None:
        request = await self._read_head(visitor)
        if request is None:
            return
        visitor.target = request.target.decode("ascii", "replace")
        visitor.wants_body = request.method != b"HEAD"
        destination, path = _parse_target(request)
        visitor.target = str(destination)
        refusal = self._policy.judge_name(destination)
        if refusal is not None:
            raise _Refused(Outcome(refusal))
        if self._dialled >= self._limits.connections:
            raise _Refused(Outcome.TOO_MANY_CONNECTIONS)
        self._dialled += 1
        try:
            with await self._dial(destination) as upstream:
                relay = Relay(visitor.socket, upstream, self._limits, self._log)
                if path is None:
                    outcome = await relay.tunnel(await _accept_tunnel(visitor))
                else:
                    outcome = await relay.exchange(visitor.http, request, destination, path)
        finally:
            self._dialled -= 1
        if outcome is not None:
            raise _Refused(outcome)
        if path is not None:
            await self._linger(visitor)

    async def _read_head(self, visitor: _Visitor) -> h11.Request | None:
        try:
            async with asyncio.timeout(self._limits.head_seconds):
                event = await next_event(visitor.http, visitor.read)
        except TimeoutError:
            raise _Refused(Outcome.HEAD_TIMEOUT) from None
        except h11.RemoteProtocolError:
            raise _Refused(Outcome.MALFORMED) from None
        return event if isinstance(event, h11.Request) else None

    async def _dial(self, destination: Destination) -> socket.socket:
        loop = asyncio.get_running_loop()
        resolved = await self._addresses(destination)
        addresses = self._policy.choose_addresses(resolved, destination.port)
        if not addresses:
            raise _Refused(Outcome.ADDRESS_PRIVATE)
        for address in addresses:
            is_v6 = isinstance(address, IPv6Address)
            upstream = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET)
            upstream.settimeout(0)
            try:
                async with asyncio.timeout(self._limits.dial_seconds):
                    await loop.sock_connect(upstream, (str(address), destination.port))
            except OSError:  # a time-out too: the next address may answer
                upstream.close()
            except BaseException:
                upstream.close()
                raise
            else:
                self._log.note(str(destination), Outcome.ALLOWED, str(address))
                return upstream
        raise _Refused(Outcome.UNREACHABLE)

    async def _addresses(self, destination: Destination) -> Sequence[Address]:
        """Asked once per connection: a second answer could differ from the judged one."""
        if (literal := destination.literal) is not None:
            return [literal]
        try:
            async with asyncio.timeout(self._limits.resolve_seconds):
                resolved = await self._resolve(destination.host, destination.port)
        except (OSError, UnicodeError):
            raise _Refused(Outcome.NAME_UNRESOLVED) from None
        if not resolved:
            raise _Refused(Outcome.NAME_UNRESOLVED)
        return resolved

    async def _refuse(self, visitor: _Visitor, outcome: Outcome) -> None:
        """A tunnel or a reply that has begun cannot carry a reason: it is just closed."""
        http = visitor.http
        if http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        status, sentence = _STATUS[outcome]
        error = "policy_denied" if status == HTTPStatus.FORBIDDEN else "unavailable"
        body = msgspec.json.encode({"error": error, "reason": outcome, "sentence": sentence})
        head = h11.Response(
            status_code=status,
            reason=outcome.value.encode(),
            headers=[
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ],
        )
        start = http.send(head)
        try:
            async with asyncio.timeout(self._limits.linger_seconds):
                content = http.send(h11.Data(data=body)) if visitor.wants_body else None
                await visitor.send(start, content, http.send(h11.EndOfMessage()))
        except TimeoutError:
            return
        await self._linger(visitor)

    async def _linger(self, visitor: _Visitor) -> None:
        """Closing over unread bytes would reset the connection under the reply."""
        try:
            async with asyncio.timeout(self._limits.linger_seconds):
                visitor.socket.shutdown(socket.SHUT_WR)
                while await visitor.read():
                    pass
        except TimeoutError:
            return


async def _accept(listener: socket.socket) -> socket.socket:
    while True:
        try:
            guest, _ = await asyncio.get_running_loop().sock_accept(listener)
        except ConnectionAbortedError:
            continue
        except OSError as error:
            if error.errno not in _OUT_OF_RESOURCES:
                raise
            await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
        else:
            return guest


async def _accept_tunnel(visitor: _Visitor) -> bytes:
    """Answer CONNECT; returns what the guest sent early."""
    http = visitor.http
    try:
        event = http.next_event()
    except h11.RemoteProtocolError:
        raise _Refused(Outcome.MALFORMED) from None
    if not isinstance(event, h11.EndOfMessage):
        raise _Refused(Outcome.MALFORMED)
    await visitor.send(http.send(h11.Response(status_code=200, reason=b"Connected", headers=[])))
    return http.trailing_data[0]


def _parse_target(request: h11.Request) -> tuple[Destination, bytes | None]:
    """The path is None for CONNECT. Anything ambiguous is malformed, never guessed."""
    target = request.target.decode("ascii", "replace")
    if request.method == b"CONNECT":
        destination, path = parse_authority(target), None
    else:
        scheme, found, rest = target.partition("://")
        cut = next((i for i, letter in enumerate(rest) if letter in "/?"), len(rest))
        known = found and scheme.lower() == "http" and "#" not in rest
        destination = parse_authority(rest[:cut], HTTP_PORT) if known else None
        path = (rest[cut:] if rest[cut:].startswith("/") else "/" + rest[cut:]).encode()
    if destination is None:
        raise _Refused(Outcome.MALFORMED)
    return destination, path
