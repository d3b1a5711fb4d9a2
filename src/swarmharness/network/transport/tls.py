"""The `tls` transport reaches nodes over TCP with TLS 1.3 and knows them by their keys alone.

Theory of operation. One transport is one node's end of all its TLS connections: the listening
socket, the two contexts, the tables of connections, channels and unused attach tokens. It
admits strangers by count, hands their channels to the handshake, and gives proven ones to the
connection they start or belong to. Everything it starts, it ends in `close`.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, final

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import NetworkId, NodeId, node_id_short
from swarmharness.kernel.signing import KeyPair
from swarmharness.network.address import Address, TransportKind
from swarmharness.network.attach_tokens import AttachTokens
from swarmharness.network.client_proof import NO_TOKEN, NONCE_BYTES
from swarmharness.network.errors import (
    ConnectionLost,
    DialRefused,
    DialTimeout,
    IdentityMismatch,
    LimitExceeded,
    PeerBusy,
    Unreachable,
)
from swarmharness.network.records import TOKEN_BYTES, RecordKind, record
from swarmharness.network.transport.inbox import Inbox
from swarmharness.network.transport.seam import CLOSE_GOING_AWAY
from swarmharness.network.transport.tls_channel import ReceiveBuffers, TlsChannel
from swarmharness.network.transport.tls_connection import TlsConnection
from swarmharness.network.transport.tls_context import acceptor_context, dialer_context
from swarmharness.network.transport.tls_handshake import AcceptorHandshake, DialerHandshake
from swarmharness.network.transport.tls_limits import TlsLimits
from swarmharness.network.transport.tls_race import first_to_succeed

_BACKLOG = 128
_ANY_HOST = frozenset(("0.0.0.0", "::", ""))  # noqa: S104  compared, not bound


class _Promise(NamedTuple):
    connection: TlsConnection
    request: int | None


@final
class TlsTransport:
    """Implements the seam's `Transport`; `listen` None makes a node that only dials."""

    kind = TransportKind.TLS

    def __init__(
        self,
        identity: KeyPair,
        network_id: NetworkId,
        listen: tuple[str, int] | None,
        *,
        limits: TlsLimits | None = None,
    ) -> None:
        self.limits = limits or TlsLimits()
        self._key = identity
        self._network_id = network_id
        self._place = listen
        self._server: asyncio.Server | None = None
        self._addresses: frozenset[Address] = frozenset()
        self._dialer_context = dialer_context()
        self._acceptor_context = acceptor_context(identity)
        self._buffers = ReceiveBuffers()
        self._channels: set[TlsChannel] = set()
        self._all_gone = asyncio.Event()
        self._strangers: dict[TlsChannel, str] = {}
        self._strangers_at: Counter[str] = Counter()
        self._tokens: AttachTokens[_Promise] = AttachTokens()
        self._connections: dict[TlsConnection, Address | None] = {}
        self._arrived: Inbox[TlsConnection] = Inbox()
        self._patient: set[asyncio.Timeout] = set()
        self._is_over = False
        self._over = asyncio.Event()
        self.refused_strangers = 0
        """Channels turned away by count, before any TLS."""

    # The seam.

    async def listen(self) -> frozenset[Address]:
        if self._place is None or self._server is not None:
            return self._addresses
        host, port = self._place
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._stranger, host, port, backlog=_BACKLOG
            )
        except OSError as error:
            raise Unreachable(
                f"This node cannot listen on {host}:{port}: {error.strerror or error}.",
                hint="Choose another address or port, or stop what occupies it.",
            ) from None
        self._addresses = frozenset(
            Address(TransportKind.TLS, own, link.getsockname()[1])
            for link in self._server.sockets
            for own in _own_hosts(link)
        )
        return self._addresses

    async def dial(
        self, peer: NodeId, addresses: Sequence[Address], *, timeout_ms: int
    ) -> TlsConnection:
        self._raise_if_over()
        if peer == self._key.node_id:
            raise IdentityMismatch(f"{node_id_short(peer)} is this node itself.")
        places = [address for address in addresses if address.kind is TransportKind.TLS]
        if not places:
            raise Unreachable(f"No address to reach {node_id_short(peer)} by TLS is known.")
        if len(self._connections) >= self.limits.connections:
            raise LimitExceeded(f"This node already has {self.limits.connections} connections.")
        attempts = [self._attempt(peer, place) for place in places]
        late = (
            f"{node_id_short(peer)} at {', '.join(map(str, places))}: "
            f"no answer in {timeout_ms} ms over TCP."
        )
        async with self._patience(timeout_ms, late):
            channel = await first_to_succeed(
                attempts, stagger_ms=self.limits.stagger_ms, lose=_give_up
            )
        connection = channel.sink
        assert isinstance(connection, TlsConnection)
        return connection

    async def accept(self) -> TlsConnection:
        return await self._arrived.get()

    async def watch_addresses(self) -> AsyncIterator[frozenset[Address]]:
        """The set of a listening socket never changes, so this yields once."""
        yield await self.listen()
        await self._over.wait()

    async def close(self, *, drain_ms: int) -> None:
        if not self._is_over:
            self._is_over = True
            self._over.set()
            if self._server is not None:
                self._server.close()
            self._arrived.close(self._error)
            for channel in list(self._strangers):
                channel.abort()
            now = asyncio.get_running_loop().time()
            for patience in [one for one in self._patient if not one.expired()]:
                patience.reschedule(now)
        for connection in list(self._connections):
            await connection.close(CLOSE_GOING_AWAY, "The node is going away.")
        try:
            async with asyncio.timeout(drain_ms / 1000):
                await self._until_all_gone()
        except TimeoutError:
            for channel in self._channels:
                channel.abort()
            await self._until_all_gone()
        if self._server is not None:
            await self._server.wait_closed()

    # Dialling.

    def _attempt(self, peer: NodeId, place: Address) -> Callable[[], asyncio.Task[TlsChannel]]:
        def welcomed(channel: TlsChannel) -> None:
            connection = TlsConnection(self, channel, peer, is_dialer=True)
            channel.sink = connection
            self._connections[connection] = place

        def start() -> asyncio.Task[TlsChannel]:
            handshake = DialerHandshake(self._key, self._network_id, peer, place, welcomed)
            return asyncio.get_running_loop().create_task(self._connect(handshake, place))

        return start

    async def attach(self, connection: TlsConnection, token: bytes) -> TlsChannel:
        place = self._connections[connection]
        assert place is not None, "only dialers attach"
        handshake = DialerHandshake(
            self._key,
            self._network_id,
            connection.remote_id,
            place,
            connection.bind_own,
            token=token,
        )
        late = f"{place} took no further channel within {self.limits.attach_ms} ms."
        async with self._patience(self.limits.attach_ms, late):
            return await self._connect(handshake, place)

    @asynccontextmanager
    async def _patience(self, timeout_ms: int, late: str) -> AsyncIterator[None]:
        """Ends with the time, or with the transport, whichever comes first."""
        try:
            async with asyncio.timeout(timeout_ms / 1000) as patience:
                self._patient.add(patience)
                try:
                    yield
                finally:
                    self._patient.discard(patience)
        except TimeoutError:
            self._raise_if_over()
            raise DialTimeout(late) from None

    async def _connect(self, handshake: DialerHandshake, place: Address) -> TlsChannel:
        handshake.channel = channel = self._channel(handshake, server_side=False)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: channel, place.host, place.port
            )
            return await handshake.result
        except ConnectionRefusedError:
            raise DialRefused(
                f"{place.host} answers, but nothing listens on port {place.port}."
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            if isinstance(error, TimeoutError):
                raise DialTimeout(f"{place}: {reason}.") from None
            raise Unreachable(f"{place} cannot be reached: {reason}.") from None
        except (ValueError, OverflowError) as error:  # hints of others may be no address at all
            raise Unreachable(f"{place} is not an address to dial: {error}.") from None
        except asyncio.CancelledError:
            result = handshake.result
            if result.done() and not result.cancelled():
                result.exception()  # the caller left; nobody else would look
            _give_up(channel)
            raise

    # Accepting.

    def _stranger(self) -> TlsChannel:
        handshake = AcceptorHandshake(
            self._key,
            self._network_id,
            secrets.token_bytes(NONCE_BYTES),
            self._welcome,
        )
        handshake.channel = self._channel(handshake, server_side=True)
        return handshake.channel

    def _admit(self, channel: TlsChannel) -> bool:
        """Called before TLS costs anything."""
        self._channels.add(channel)
        if isinstance(channel.sink, DialerHandshake):
            return not self._is_over
        host = channel.remote[0]
        share = min(
            self.limits.handshakes_per_ip + self._tokens.promised_to(host),
            self.limits.handshakes_per_ip_max,
        )
        if (
            self._is_over
            or len(self._strangers) >= self.limits.handshakes_pending
            or self._strangers_at[host] >= share
        ):
            self.refused_strangers += 1
            return False
        self._strangers[channel] = host
        self._strangers_at[host] += 1
        return True

    def _forget_stranger(self, channel: TlsChannel) -> None:
        host = self._strangers.pop(channel, None)
        if host is not None:
            self._strangers_at[host] -= 1
            if not self._strangers_at[host]:
                del self._strangers_at[host]

    def _welcome(self, channel: TlsChannel, client_id: NodeId, token: bytes) -> None:
        """The proof holds; what is still wrong is refused with a reason."""
        if token != NO_TOKEN:
            self._welcome_attached(channel, client_id, token)
            return
        if len(self._connections) >= self.limits.connections:
            raise PeerBusy(
                f"{node_id_short(self._key.node_id)} already has "
                f"{self.limits.connections} connections."
            )
        self._accepted(channel)
        connection = TlsConnection(self, channel, client_id, is_dialer=False)
        channel.sink = connection
        self._connections[connection] = None
        self._arrived.put(connection)

    def _welcome_attached(self, channel: TlsChannel, client_id: NodeId, token: bytes) -> None:
        promise = self._tokens.redeem(token, client_id, _now_us())
        if promise is None or promise.connection.is_over:
            raise ConnectionLost("This attach token is unknown, used or expired.")
        self._accepted(channel)
        promise.connection.bind(channel, token, mine=promise.request is None)

    def _accepted(self, channel: TlsChannel) -> None:
        self._forget_stranger(channel)
        channel.trust()
        channel.send(record(RecordKind.WELCOME))

    # What connections call.

    def issue_token(self, connection: TlsConnection, request: int | None) -> bytes:
        token = secrets.token_bytes(TOKEN_BYTES)
        self._tokens.issue(
            token,
            connection.remote_id,
            connection.remote_host,
            _Promise(connection, request),
            _now_us(),
        )
        return token

    def revoke_token(self, token: bytes) -> None:
        self._tokens.revoke(token)

    def connection_over(self, connection: TlsConnection) -> None:
        self._connections.pop(connection, None)

    # Both sides.

    def _channel(
        self, sink: AcceptorHandshake | DialerHandshake, *, server_side: bool
    ) -> TlsChannel:
        return TlsChannel(
            self._acceptor_context if server_side else self._dialer_context,
            sink,
            server_side=server_side,
            buffers=self._buffers,
            limits=self.limits,
            admit=self._admit,
            gone=self._channel_gone,
        )

    def _channel_gone(self, channel: TlsChannel) -> None:
        self._forget_stranger(channel)
        self._channels.discard(channel)
        if not self._channels:
            self._all_gone.set()

    async def _until_all_gone(self) -> None:
        while self._channels:
            self._all_gone.clear()
            await self._all_gone.wait()

    def _raise_if_over(self) -> None:
        if self._is_over:
            raise self._error()

    def _error(self) -> SwarmError:
        return ConnectionLost("This node's TLS transport is closed.")


def _give_up(channel: TlsChannel) -> None:
    """Nobody wants it any more; what it became meanwhile must hear so."""
    channel.abort()
    if not isinstance(channel.sink, DialerHandshake):
        channel.sink.lost(None)


def _now_us() -> int:
    return int(asyncio.get_running_loop().time() * 1_000_000)


def _own_hosts(link: socket.socket) -> tuple[str, ...]:
    """What others may dial for this listening socket."""
    host: str = link.getsockname()[0]
    if host not in _ANY_HOST:
        return (host,)
    loopback = "::1" if link.family == socket.AF_INET6 else "127.0.0.1"
    outward = _outward_host(link.family)
    return (outward, loopback) if outward else (loopback,)


def _outward_host(family: int) -> str | None:
    """The address that packets to elsewhere would carry; connecting UDP sends nothing."""
    elsewhere = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"  # documentation
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((elsewhere, 9))
        except OSError:
            return None
        host: str = probe.getsockname()[0]
        return host
