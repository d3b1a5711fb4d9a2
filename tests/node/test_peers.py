"""Connections between nodes: dialling until it works, agreeing on one, and what they offer."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from node.memory_swarm import MemoryNode, MemorySwarm, echo, id_of
from swarmharness.kernel.codec import encode
from swarmharness.kernel.errors import MalformedMessage
from swarmharness.kernel.ids import NetworkId
from swarmharness.network.address import NodeAddress
from swarmharness.network.errors import IdentityMismatch, LimitExceeded
from swarmharness.network.io.incoming_call import IncomingCall
from swarmharness.network.link_model import LinkProfile
from swarmharness.node import peers as peers_module
from swarmharness.node.peers import FIRST_RETRY_S, LAST_RETRY_S
from swarmharness.skills.messages import WATCH_METHOD, OffersMessage

pytestmark = pytest.mark.virtual


def connection_of(node: MemoryNode, other: MemoryNode) -> object:
    return node.peers.connected[other.node_id].rpc


async def until_connected(node: MemoryNode, other: MemoryNode) -> None:
    while other.node_id not in node.peers.connected:
        await asyncio.sleep(0.01)


async def test_a_named_peer_tells_what_it_offers():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"echo": echo})
        await a.meet(b)
        peer = a.peers.connected[b.node_id]
        assert (list(peer.offers), peer.sandbox_tier) == (["echo"], "1")
        await until_connected(b, a)
        assert b.peers.connected[a.node_id].offers == {}


async def test_offers_follow_what_is_served():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b")
        await a.meet(b)
        peer = a.peers.connected[b.node_id]
        b.serve("one")
        await asyncio.sleep(1)
        assert list(peer.offers) == ["one"]
        b.serve("two", places=7)
        b.offering.remove("one")
        await asyncio.sleep(1)
        assert [(offer.name, offer.places) for offer in peer.offers.values()] == [("two", 7)]
        b.serve("two", publish=False)
        await asyncio.sleep(1)
        assert peer.offers == {}


async def test_a_peer_that_is_not_there_yet_is_dialled_until_it_is():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        late = MemoryNode(swarm.network, "b")  # exists, but does not listen
        a.peers.name(late.address)
        await a.peers.settle(5)
        named = a.peers.named[late.node_id]
        assert named.error is not None
        await asyncio.sleep(10)
        assert late.node_id not in a.peers.connected
        swarm.nodes.append(late)
        await late.start()
        await asyncio.sleep(LAST_RETRY_S)
        assert late.node_id in a.peers.connected
        assert named.error is None


async def test_dialling_pauses_double_up_to_a_limit(monkeypatch: pytest.MonkeyPatch):
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        silent = MemoryNode(swarm.network, "b")
        moments: list[float] = []
        dial = a.transport.dial

        async def noted(*arguments: object, **named: object) -> object:
            moments.append(asyncio.get_running_loop().time())
            return await dial(*arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(a.transport, "dial", noted)
        a.peers.name(silent.address)
        await asyncio.sleep(300)
        pauses = [round(b - a, 1) for a, b in pairwise(moments)]
        assert pauses[0] == pytest.approx(FIRST_RETRY_S, abs=0.1)
        assert all(later >= earlier for earlier, later in pairwise(pauses))
        assert pauses[-1] == pytest.approx(LAST_RETRY_S, abs=0.1)
        await silent.transport.close(drain_ms=0)


async def test_a_peer_that_hangs_up_at_once_is_dialled_ever_more_rarely():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        other = await swarm.node("b")
        other.peers._adopt = lambda peer: False  # type: ignore[method-assign]  always a duplicate
        greeted = 0
        meet = other.peers._meet

        async def counted(*arguments: object) -> object:
            nonlocal greeted
            greeted += 1
            return await meet(*arguments)  # type: ignore[arg-type]

        other.peers._meet = counted  # type: ignore[method-assign]
        a.peers.name(other.address)
        await asyncio.sleep(120)
        assert 3 < greeted < 15


async def test_somebody_else_at_the_address_is_not_taken_for_the_peer():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b")
        a.peers.name(NodeAddress(id_of("c"), b.transport.address))
        await a.peers.settle(5)
        assert isinstance(a.peers.named[id_of("c")].error, IdentityMismatch)
        assert not a.peers.connected


async def test_another_network_stays_apart():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        b = await swarm.node("b", network_id=NetworkId(bytes(32)))
        a.peers.name(b.address)
        await asyncio.sleep(60)
        assert not a.peers.connected
        assert not b.peers.connected


@pytest.mark.parametrize("latency_us", [0, 1_000, 50_000])
async def test_two_nodes_that_dial_each_other_agree_on_one_connection(latency_us: int):
    async with MemorySwarm(LinkProfile(latency_us=latency_us)) as swarm:
        a, b = await swarm.node("a", skills={"x": echo}), await swarm.node("b", skills={"y": echo})
        a.peers.name(b.address)
        b.peers.name(a.address)
        await asyncio.sleep(10)
        ours, theirs = connection_of(a, b), connection_of(b, a)
        assert ours.is_open
        assert theirs.is_open
        assert ours.is_dialer != theirs.is_dialer
        assert len(a.transport._connections) == len(b.transport._connections) == 1
        assert ours.is_dialer == (a.node_id < b.node_id)
        assert (await a.result("y")).node == b.node_id
        assert (await b.result("x")).node == a.node_id


async def test_offers_go_with_the_connection_and_come_back():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"echo": echo})
        await a.meet(b)
        await b.stop()
        await asyncio.sleep(1)
        assert not a.peers.connected
        swarm.nodes.remove(b)
        again = await swarm.node("b", skills={"other": echo})
        await asyncio.sleep(LAST_RETRY_S)
        assert list(a.peers.connected[again.node_id].offers) == ["other"]


async def test_a_restarted_peer_replaces_its_old_connection():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        b = await swarm.node("b")
        b.peers.name(a.address)
        await until_connected(a, b)
        old = connection_of(a, b)
        swarm.crash(b)  # a has heard nothing of it
        await b.peers.close(drain_ms=0)
        swarm.nodes.remove(b)
        again = await swarm.node("b", skills={"echo": echo})
        assert connection_of(a, again) is old
        again.peers.name(a.address)
        await asyncio.sleep(5)
        assert connection_of(a, again) is not old
        assert (await a.result("echo")).node == again.node_id


async def test_leaving_takes_no_longer_than_saying_so():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a", skills={"x": echo}), await swarm.node("b", skills={"y": echo})
        await a.meet(b)
        await until_connected(b, a)
        before_us = a.clock.now_us()
        await a.stop()
        assert a.clock.now_us() - before_us < 100_000
        swarm.nodes.remove(a)
        await asyncio.sleep(0.1)
        assert not b.peers.connected


async def test_naming_is_idempotent_and_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers_module, "NAMED_LIMIT", 2)
    async with MemorySwarm() as swarm:
        a, b, c = [await swarm.node(name) for name in "abc"]
        a.peers.name(a.address)
        assert not a.peers.named
        for other in (b, c, b):
            a.peers.name(other.address)
        with pytest.raises(LimitExceeded):
            a.peers.name(NodeAddress(id_of("d"), b.transport.address))
        await a.peers.settle(5)
        assert len(a.peers.connected) == 2


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers_module, "PEERS_LIMIT", 1)
    monkeypatch.setattr(peers_module, "NAMED_RESERVE", 0)
    async with MemorySwarm() as swarm:
        a, b, c = [await swarm.node(name) for name in "abc"]
        b.peers.name(a.address)
        await until_connected(a, b)
        c.peers.name(a.address)
        await asyncio.sleep(30)
        assert list(a.peers.connected) == [b.node_id]
        assert not c.peers.connected


async def test_strangers_leave_room_for_named_peers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers_module, "PEERS_LIMIT", 2)
    monkeypatch.setattr(peers_module, "NAMED_RESERVE", 1)
    async with MemorySwarm() as swarm:
        a, b, c, d = [await swarm.node(name) for name in "abcd"]
        for stranger in (b, c):
            stranger.peers.name(a.address)
        await asyncio.sleep(30)
        assert len(a.peers.connected) == 1
        a.peers.named[d.node_id] = peers_module.NamedPeer(d.address)
        d.peers.name(a.address)
        await until_connected(a, d)
        assert len(a.peers.connected) == 2


async def test_strangers_that_greet_at_once_do_not_slip_past_the_limit(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(peers_module, "PEERS_LIMIT", 2)
    monkeypatch.setattr(peers_module, "NAMED_RESERVE", 0)
    async with MemorySwarm(LinkProfile(latency_us=50_000)) as swarm:
        a, *others = [await swarm.node(name) for name in "abcdef"]
        for other in others:
            other.peers.name(a.address)
        for _ in range(100):
            await asyncio.sleep(0.01)
            assert len(a.peers.connected) <= 2
        assert len(a.peers.connected) == 2


async def test_a_watch_that_takes_no_news_is_malformed():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b")
        await a.meet(b)
        with pytest.raises(MalformedMessage):
            await a.peers.connected[b.node_id].rpc.call(WATCH_METHOD, b"", timeout_ms=1_000)


@pytest.mark.parametrize("item", [b"\xff\x00", b"", encode([1, "1", [["name only"]]])])
async def test_garbage_for_offers_ends_the_connection(item: bytes):
    async def watch(call: IncomingCall) -> bytes:
        await call.send(item)
        await asyncio.Event().wait()
        return b""

    async with MemorySwarm() as swarm:
        a = await swarm.node("a", skills={"echo": echo})
        bad = await swarm.node("b", methods={WATCH_METHOD: watch})
        a.peers.name(bad.address)
        await asyncio.sleep(5)
        assert bad.node_id not in a.peers.connected
        assert a.peers.named[bad.node_id].error is not None
        good = await swarm.node("c")
        good.peers.name(a.address)
        await until_connected(a, good)
        assert (await good.result("echo")).node == a.node_id


async def test_a_watch_that_ends_at_once_does_not_spin():
    asked = 0

    async def watch(call: IncomingCall) -> bytes:
        nonlocal asked
        asked += 1
        await call.send(encode(OffersMessage(1, "1", ())))
        return b""

    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        odd = await swarm.node("b", methods={WATCH_METHOD: watch})
        a.peers.name(odd.address)
        await asyncio.sleep(10)
        assert 1 <= asked <= 10 / FIRST_RETRY_S
