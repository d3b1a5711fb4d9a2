"""Peers are the nodes this one holds a connection with, and what each of them offers.

Theory of operation. A peer that the operator named is dialled until it answers, with doubling
pauses, and again whenever the connection ends; a peer that dialled us is kept while it stays. Two
nodes that dial each other at the same time end up with two connections: both sides keep the one
that was dialled by the smaller id, so they agree without a word. Each connection carries one
`skills.watch` call per direction, which keeps the offers fresh; when the connection ends, the
offers go with it, so a dead node is never chosen again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Mapping
from typing import Any, final

from swarmharness.kernel.clock import Clock
from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import NetworkId, NodeId, node_id_short
from swarmharness.network.address import NodeAddress
from swarmharness.network.errors import DeadlineExceeded, LimitExceeded
from swarmharness.network.io.rpc_connection import Method, RpcConnection
from swarmharness.network.rpc.call_budget import CallBudget
from swarmharness.network.rpc.messages import Hello
from swarmharness.network.transport.seam import (
    CLOSE_DUPLICATE,
    CLOSE_GOING_AWAY,
    CLOSE_NORMAL,
    CLOSE_OVERLOADED,
    Connection,
    Transport,
)
from swarmharness.skills.messages import WATCH_METHOD, SkillOffer, decode_offers

log = logging.getLogger(__name__)

DIAL_MS = 10_000  # the whole dial; the transport gives up on one address earlier
FIRST_RETRY_S = 0.25  # a peer that is just starting
LAST_RETRY_S = 30.0  # a peer that is switched off for the night
PEERS_LIMIT = 256  # as many connections as a transport holds
NAMED_RESERVE = 64  # of these only for peers that the operator named: strangers never fill them
NAMED_LIMIT = 256  # peers to dial; more is what a registry is for
WATCH_MS = 3_600_000  # a watch is renewed every hour, which bounds a stuck one


@final
class Peer:
    """One connected node."""

    def __init__(self, rpc: RpcConnection) -> None:
        self.rpc = rpc
        self.node_id = rpc.remote_id
        self.offers: dict[str, SkillOffer] = {}
        self.sandbox_tier = ""
        self.in_flight = 0
        self.recent_failures = 0
        self.has_told_offers = asyncio.Event()

    def __repr__(self) -> str:
        return f"Peer({node_id_short(self.node_id)})"


@final
class NamedPeer:
    """A peer that the operator named, and how dialling it goes."""

    def __init__(self, address: NodeAddress) -> None:
        self.address = address
        self.pause_s = FIRST_RETRY_S
        self.error: SwarmError | None = None
        self.has_settled = asyncio.Event()
        """Set once it has told its offers, or could not be reached."""


@final
class Peers:
    """All connections of a node; `start` it once, `name` those to dial, `close` it at the end."""

    def __init__(
        self,
        transport: Transport,
        *,
        node_id: NodeId,
        network_id: NetworkId,
        agent: str,
        methods: Mapping[str, Method],
        clock: Clock,
    ) -> None:
        self._transport = transport
        self._node_id = node_id
        self._network_id = network_id
        self._agent = agent
        self._methods = methods
        self._clock = clock
        self._run_id = secrets.token_bytes(16)
        self._budget = CallBudget()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self._greeting = 0  # accepted, not adopted yet: they must not slip past the limit together
        self.named: dict[NodeId, NamedPeer] = {}
        self.connected: dict[NodeId, Peer] = {}

    def start(self) -> None:
        """Begin to accept connections."""
        self._spawn(self._accept())

    def name(self, address: NodeAddress) -> None:
        """Dial this peer now and whenever it is not connected. Naming it again moves it."""
        if address.node_id == self._node_id or address.node_id in self.named:
            known = self.named.get(address.node_id)
            if known is not None:
                known.address = address
            return
        if len(self.named) >= NAMED_LIMIT:
            raise LimitExceeded(f"At most {NAMED_LIMIT} peers can be named.")
        named = self.named[address.node_id] = NamedPeer(address)
        self._spawn(self._keep_dialling(named))

    async def settle(self, timeout_s: float) -> None:
        """Wait until each named peer has told its offers or was not reached, or time ran out."""
        try:
            async with asyncio.timeout(timeout_s):
                for named in list(self.named.values()):
                    await named.has_settled.wait()
        except TimeoutError:
            log.info("Not every named peer has answered yet.")

    async def close(self, *, drain_ms: int) -> None:
        """Say goodbye to everybody."""
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        goodbyes = [
            peer.rpc.close(CLOSE_GOING_AWAY, "The node is shutting down.", drain_ms=drain_ms)
            for peer in self.connected.values()
        ]
        await asyncio.gather(*goodbyes, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("A peer's task failed.", exc_info=task.exception())

    async def _accept(self) -> None:
        while True:
            connection = await self._transport.accept()
            is_named = connection.remote_id in self.named
            limit = PEERS_LIMIT if is_named else PEERS_LIMIT - NAMED_RESERVE
            if len(self.connected) + self._greeting >= limit:
                await connection.close(CLOSE_OVERLOADED, "This node has too many peers.")
                continue
            self._greeting += 1
            self._spawn(self._greet(connection))

    async def _greet(self, connection: Connection) -> None:
        try:
            try:
                peer = await self._meet(connection)
            finally:
                self._greeting -= 1
            if peer is not None:
                await self._stay_with(peer)
        except SwarmError as error:
            log.info("%s left: %s", node_id_short(connection.remote_id), error.sentence)

    async def _keep_dialling(self, named: NamedPeer) -> None:
        node_id = named.address.node_id
        while True:
            try:
                if node_id not in self.connected:
                    connection = await self._transport.dial(
                        node_id, [named.address.address], timeout_ms=DIAL_MS
                    )
                    met = await self._meet(connection)
                    if met is not None:
                        named.error = None
                        await self._stay_with(met)
                peer = self.connected.get(node_id)
                if peer is not None:
                    named.error = None
                    await peer.has_told_offers.wait()
                    named.has_settled.set()
                    await peer.rpc.wait_closed()
            except SwarmError as error:
                named.error = error
                named.has_settled.set()
                log.info("Cannot reach %s: %s", named.address, error.sentence)
            await asyncio.sleep(named.pause_s)
            named.pause_s = min(LAST_RETRY_S, 2 * named.pause_s)

    async def _meet(self, connection: Connection) -> Peer | None:
        """The greeting; None if the connection is not needed."""
        rpc = RpcConnection(
            connection,
            methods=self._methods,
            hello=Hello(
                network_id=self._network_id,
                run_id=self._run_id,
                agent=self._agent,
                observed=connection.path().remote[:128],
                now_ms=self._clock.wall_ms(),
            ),
            clock=self._clock,
            budget=self._budget,
        )
        await rpc.start()
        peer = Peer(rpc)
        if not self._adopt(peer):
            await rpc.close(CLOSE_DUPLICATE, "There is another connection already.", drain_ms=0)
            return None
        log.info("Connected with %s.", node_id_short(peer.node_id))
        return peer

    async def _stay_with(self, peer: Peer) -> None:
        """Until the connection ends."""
        try:
            await self._watch_offers(peer)
        finally:
            if self.connected.get(peer.node_id) is peer and not self._is_closing:
                del self.connected[peer.node_id]
            if not self._is_closing:
                await peer.rpc.close(CLOSE_NORMAL, "Done.", drain_ms=0)

    def _adopt(self, peer: Peer) -> bool:
        """Of two connections with one node, keep the one that the smaller id dialled."""
        known = self.connected.get(peer.node_id)
        is_restarted = (
            known is not None and known.rpc.peer_hello.run_id != peer.rpc.peer_hello.run_id
        )
        if known is not None and known.rpc.is_open and not is_restarted:
            was_dialled_by_smaller = peer.rpc.is_dialer == (self._node_id < peer.node_id)
            if known.rpc.is_dialer == peer.rpc.is_dialer or not was_dialled_by_smaller:
                return False
        self.connected[peer.node_id] = peer
        if known is not None:
            self._spawn(self._dismiss(known))
        return True

    async def _dismiss(self, peer: Peer) -> None:
        await peer.rpc.close(CLOSE_DUPLICATE, "A newer connection replaces this one.")

    async def _watch_offers(self, peer: Peer) -> None:
        while peer.rpc.is_open:
            try:
                async with peer.rpc.stream(
                    WATCH_METHOD, b"", timeout_ms=WATCH_MS, is_background=True
                ) as watch:
                    async for item in watch:
                        message = decode_offers(item)
                        peer.offers = {offer.name: offer for offer in message.skills}
                        peer.sandbox_tier = message.sandbox_tier
                        peer.has_told_offers.set()
                        self._settle_named(peer.node_id)
            except DeadlineExceeded:
                continue  # the hour is over: ask again
            return  # only a node that is leaving ends its answer

    def _settle_named(self, node_id: NodeId) -> None:
        named = self.named.get(node_id)
        if named is not None:
            named.has_settled.set()
            named.pause_s = FIRST_RETRY_S
