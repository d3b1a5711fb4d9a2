"""The memory transport joins nodes of one process by modelled links, on whatever loop runs.

Theory of operation. A `MemoryNetwork` knows every node by name and owns the link model. It
moves records between connection ends: the model says when a record arrives, and a timer of the
loop delivers it. There are no tasks, so nothing can be left running. On the virtual loop all
of it takes no real time and repeats exactly.

Nobody signs anything here: a node's id is compared, as if it had been proved. What a wrong
key, a wrong network or a full node gets to see is the same as on a real wire, and as early.
A dial takes two round trips, like TCP and TLS 1.3 together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import final

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import NetworkId, NodeId, node_id_short
from swarmharness.network.address import Address, TransportKind
from swarmharness.network.errors import (
    ConnectionLost,
    DialRefused,
    DialTimeout,
    IdentityMismatch,
    LimitExceeded,
    NetworkMismatch,
    Unreachable,
)
from swarmharness.network.link_model import Cut, LinkModel
from swarmharness.network.transport.bell import Bell
from swarmharness.network.transport.memory_connection import MemoryConnection, connect_ends
from swarmharness.network.transport.memory_stream import Lane
from swarmharness.network.transport.seam import CLOSE_GOING_AWAY, CLOSE_NORMAL

MAX_CONNECTIONS = 256  # of one node; a full mesh of a large office
HANDSHAKE_BYTES = 1500  # a certificate and a proof

_TELLING = (IdentityMismatch, NetworkMismatch)
"""Of several failed addresses, these say most about what is wrong."""


@final
class MemoryNetwork:
    """Nodes by name, and the links between them."""

    def __init__(self, model: LinkModel | None = None) -> None:
        self.model = LinkModel() if model is None else model
        self._nodes: dict[str, MemoryTransport] = {}
        self._held: list[tuple[MemoryConnection, Lane, int, bool]] = []

    def join(self, transport: MemoryTransport) -> None:
        """A node that starts again under its name takes the place of the crashed one."""
        old = self._nodes.get(transport.name)
        assert old is None or old.is_closed, f"two nodes are called {transport.name}"
        self._nodes[transport.name] = transport

    def node(self, name: str) -> MemoryTransport | None:
        return self._nodes.get(name)

    def crash(self, name: str) -> None:
        """The node stops in the middle of whatever it does; the others see only silence."""
        self._nodes[name].crash()

    def partition(self, source: str, destination: str, how: Cut = Cut.BLACKHOLE) -> None:
        """Cut one direction."""
        self.model.cut(source, destination, how)

    def heal(self, source: str, destination: str) -> None:
        """Bytes that were held go on, in order."""
        self.model.heal(source, destination)
        held, self._held = self._held, []
        for sender, lane, size, is_last in held:
            sender.somebody_answers()
            self.transmit(sender, lane, size, is_last=is_last)

    def round_trip_us(self, route: tuple[str, ...]) -> int:
        return self.model.round_trip_us(route)

    def transmit(
        self, sender: MemoryConnection, lane: Lane, size: int, *, is_last: bool = False
    ) -> None:
        """Deliver the record that `sender` has just put into `lane`."""
        if sender.other_end.is_silent:
            if self._nodes[sender.route[-1]].is_crashed:
                sender.nobody_answers()
            else:  # somebody new answers there, and knows nothing of this connection
                sender.lose("the other node has started again")
            return
        match self.model.cut_of(sender.route):
            case Cut.REFUSE:
                sender.lose("the network broke the connection")
            case Cut.BLACKHOLE:
                self._held.append((sender, lane, size, is_last))
                sender.nobody_answers()
            case None:
                after_us = sender.last_arrival_us if is_last else lane.last_arrival_us
                arrival_us = self.model.carry(now_us(), sender.route, size, after_us)
                lane.last_arrival_us = arrival_us
                sender.last_arrival_us = max(sender.last_arrival_us, arrival_us)
                call_at_us(arrival_us, sender.arrive, lane)

    def pass_on(
        self, route: tuple[str, ...], fail: Callable[[SwarmError], None], then: Callable[[], None]
    ) -> None:
        """One step of a handshake; on a silent way nothing happens at all."""
        match self.model.cut_of(route):
            case Cut.REFUSE:
                fail(DialRefused(f"The network refuses connections to mem://{route[-1]}."))
            case None if not self._nodes[route[-1]].is_crashed:
                call_at_us(self.model.carry(now_us(), route, HANDSHAKE_BYTES), then)


@final
class MemoryTransport:
    """One node's access to a `MemoryNetwork`, under a name that is its address."""

    kind = TransportKind.MEMORY

    def __init__(
        self, node_id: NodeId, network_id: NetworkId, *, name: str, network: MemoryNetwork
    ) -> None:
        self.name = name
        self.node_id = node_id
        self.network_id = network_id
        self.is_listening = False
        self.is_closed = False
        self.is_crashed = False
        self._network = network
        self._connections: dict[MemoryConnection, None] = {}
        self._incoming: deque[MemoryConnection] = deque()
        self._dials: dict[asyncio.Future[MemoryConnection], None] = {}
        self._bell = Bell()
        network.join(self)

    @property
    def address(self) -> Address:
        return Address(TransportKind.MEMORY, self.name)

    async def listen(self) -> frozenset[Address]:
        self._check_open()
        self.is_listening = True
        self._bell.ring()
        return frozenset([self.address])

    async def dial(
        self, peer: NodeId, addresses: Sequence[Address], *, timeout_ms: int
    ) -> MemoryConnection:
        """One address after the other, each with its share of the time that is left."""
        names = [address.host for address in addresses if address.kind is self.kind]
        if not names:
            raise Unreachable(f"{node_id_short(peer)} has no address of the kind “mem”.")
        deadline_us = now_us() + timeout_ms * 1000
        failures: list[SwarmError] = []
        for index, name in enumerate(names):
            share_us = (deadline_us - now_us()) // (len(names) - index)
            try:
                return await self._dial_one(peer, name, share_us)
            except LimitExceeded:
                raise
            except SwarmError as failure:
                failures.append(failure)
        telling = [failure for failure in failures if isinstance(failure, _TELLING)]
        raise (telling or failures)[-1]

    async def accept(self) -> MemoryConnection:
        while True:
            self._check_open()
            while self._incoming:
                connection = self._incoming.popleft()
                if not connection.is_closed:
                    return connection
            await self._bell.wait()

    async def watch_addresses(self) -> AsyncIterator[frozenset[Address]]:
        """A name never changes; listening starts and ends."""
        known: frozenset[Address] | None = None
        while not self.is_closed:
            addresses = frozenset([self.address] if self.is_listening else [])
            if addresses != known:
                known = addresses
                yield addresses
            else:
                await self._bell.wait()

    async def close(self, *, drain_ms: int) -> None:
        """What was written is delivered if that takes no longer than `drain_ms`."""
        if self.is_closed:
            return
        self.is_closed = True
        self.is_listening = False
        self._end_waiting()
        try:
            async with asyncio.timeout(drain_ms / 1000):
                while not all(connection.is_drained for connection in self._connections):
                    await self._bell.wait()
        except TimeoutError:
            pass  # the drain time is a promise to try
        finally:
            for connection in list(self._connections):
                connection.close_now(CLOSE_GOING_AWAY, "the node is going away")

    def crash(self) -> None:
        """Nothing leaves this node any more, and all that waits in it ends."""
        self.is_closed = self.is_crashed = True
        self.is_listening = False
        for connection in list(self._connections):
            connection.is_silent = True
            connection.lose("this node crashed")
        self._end_waiting()

    def connection_ended(self, connection: MemoryConnection) -> None:
        self._connections.pop(connection, None)
        self._bell.ring()

    def made_progress(self) -> None:
        self._bell.ring()

    async def _dial_one(self, peer: NodeId, name: str, share_us: int) -> MemoryConnection:
        self._check_open()
        if len(self._connections) + len(self._dials) >= MAX_CONNECTIONS:
            raise LimitExceeded(f"This node has {MAX_CONNECTIONS} connections already.")
        if self._network.node(name) is None:
            raise Unreachable(f"There is no node called “{name}”.")
        answer: asyncio.Future[MemoryConnection] = asyncio.get_running_loop().create_future()
        self._dials[answer] = None
        timeout = DialTimeout(f"mem://{name} did not answer within {share_us // 1000} ms.")
        timer = call_at_us(now_us() + max(share_us, 0), _fail, answer, timeout)
        try:
            route = self._network.model.route(self.name, name)
            if route is not None:
                _Handshake(self._network, self, peer, route, answer).begin()
            return await answer
        finally:
            timer.cancel()
            del self._dials[answer]

    def adopt(self, connection: MemoryConnection) -> None:
        self._connections[connection] = None

    def offer(self, connection: MemoryConnection) -> None:
        """A proved peer dialled us."""
        self.adopt(connection)
        self._incoming.append(connection)
        self._bell.ring()

    @property
    def is_full(self) -> bool:
        return len(self._connections) >= MAX_CONNECTIONS

    def _end_waiting(self) -> None:
        for answer in list(self._dials):
            _fail(answer, ConnectionLost("This node's network is closed."))
        self._bell.ring()

    def _check_open(self) -> None:
        if self.is_closed:
            raise ConnectionLost("This node's network is closed.")


@final
class _Handshake:
    """Dial, show an id, prove one's own, be welcome: four steps over the modelled way."""

    def __init__(
        self,
        network: MemoryNetwork,
        dialer: MemoryTransport,
        peer: NodeId,
        route: tuple[str, ...],
        answer: asyncio.Future[MemoryConnection],
    ) -> None:
        self._network = network
        self._dialer = dialer
        self._peer = peer
        self._route = route
        self._answer = answer

    def begin(self) -> None:
        self._there(self._show_id)

    def _show_id(self) -> None:
        listener = self._listener()
        if not listener.is_listening:
            self._back(lambda: self._fail(DialRefused(f"mem://{listener.name} does not listen.")))
            return
        self._back(lambda: self._check_id(listener))

    def _check_id(self, listener: MemoryTransport) -> None:
        if listener.node_id != self._peer:
            actual, expected = node_id_short(listener.node_id), node_id_short(self._peer)
            self._fail(IdentityMismatch(f"mem://{listener.name} is {actual}, not {expected}."))
            return
        self._there(self._check_proof)

    def _check_proof(self) -> None:
        listener, dialer = self._listener(), self._dialer
        name = f"mem://{listener.name}"
        refusal: SwarmError | None = None
        if listener.node_id == dialer.node_id:
            refusal = IdentityMismatch(f"{name} is this node itself.")
        elif listener.network_id != dialer.network_id:
            refusal = NetworkMismatch(f"{name} belongs to another network.")
        elif listener.is_full or not listener.is_listening:
            refusal = DialRefused(f"{name} takes no more connections.")
        if refusal is not None:
            failure = refusal
            self._back(lambda: self._fail(failure))
            return
        route = self._route
        ours = MemoryConnection(
            self._network, listener, dialer.node_id, is_dialer=False, route=route[::-1]
        )
        theirs = MemoryConnection(
            self._network, dialer, listener.node_id, is_dialer=True, route=route
        )
        connect_ends(theirs, ours)
        listener.offer(ours)
        self._back(lambda: self._be_welcome(theirs))

    def _be_welcome(self, connection: MemoryConnection) -> None:
        if self._answer.done():  # timed out or cancelled meanwhile
            connection.close_now(CLOSE_NORMAL, "the dialer did not wait")
            return
        self._dialer.adopt(connection)
        self._answer.set_result(connection)

    def _listener(self) -> MemoryTransport:
        listener = self._network.node(self._route[-1])
        assert listener is not None, "names are never forgotten"
        return listener

    def _there(self, then: Callable[[], None]) -> None:
        self._network.pass_on(self._route, self._fail, then)

    def _back(self, then: Callable[[], None]) -> None:
        self._network.pass_on(self._route[::-1], self._fail, then)

    def _fail(self, failure: SwarmError) -> None:
        _fail(self._answer, failure)


def now_us() -> int:
    """The running loop's time."""
    return round(asyncio.get_running_loop().time() * 1_000_000)


def call_at_us(
    moment_us: int, callback: Callable[..., object], *arguments: object
) -> asyncio.TimerHandle:
    """At exactly that microsecond on a virtual loop."""
    return asyncio.get_running_loop().call_at(moment_us / 1_000_000, callback, *arguments)


def _fail(answer: asyncio.Future[MemoryConnection], failure: SwarmError) -> None:
    if not answer.done():
        answer.set_exception(failure)
