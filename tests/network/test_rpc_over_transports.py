"""The RPC driver over the real transports: what the in-test pair cannot show."""

import asyncio

import pytest

from network.tls_pair import ALICE, BOB, connected
from swarmharness.kernel.ids import DEVELOPMENT_NETWORK
from swarmharness.network.errors import ConnectionLost
from swarmharness.network.io.rpc_connection import RpcConnection
from swarmharness.network.rpc.limits import DRAIN_MS, MAX_MESSAGE_BYTES
from swarmharness.network.rpc.messages import Hello
from swarmharness.network.transport.memory import MemoryNetwork, MemoryTransport
from swarmharness.network.transport.seam import CLOSE_NORMAL

HELLO = Hello(DEVELOPMENT_NETWORK, b"r" * 16)
CONTENT = bytes(range(256)) * 8192  # 2 MiB


class LoopClock:
    def now_us(self):
        return int(asyncio.get_running_loop().time() * 1_000_000)

    def wall_ms(self):
        return 0


async def echo(call):
    return call.body


async def double(call):
    async for item in call:
        await call.send(item * 2)
    return b"done"


async def park(call):
    await call.send(b"parked")
    await asyncio.get_running_loop().create_future()
    return b""


METHODS = {"echo": echo, "double": double, "park": park}


def memory_node(network, name, key):
    return MemoryTransport(key.node_id, DEVELOPMENT_NETWORK, name=name, network=network)


async def link(dialed, accepted):
    near = RpcConnection(dialed, methods={}, hello=HELLO, clock=LoopClock())
    far = RpcConnection(accepted, methods=METHODS, hello=HELLO, clock=LoopClock())
    await asyncio.gather(near.start(), far.start())
    return near, far


async def converse(near, far):
    """A bit of everything, ended in good order."""
    large = bytes(MAX_MESSAGE_BYTES)
    bodies = [b"", b"small", large, b"after"]
    answers = await asyncio.gather(*[near.call("echo", b, timeout_ms=60_000) for b in bodies])
    assert answers == bodies
    async with near.stream("double", b"", timeout_ms=60_000) as call:
        for number in range(50):
            await call.send(bytes([number]) * 3000)
        await call.finish()
        assert [item[0] async for item in call] == list(range(50))
        assert await call.result() == b"done"
    async with near.stream("park", b"", timeout_ms=60_000) as call:
        assert await anext(call) == b"parked"
    ticket = await far.offer_bulk(CONTENT, ttl_ms=60_000)
    assert await near.fetch_bulk(ticket, limit_bytes=2**24, timeout_ms=60_000) == CONTENT
    ticket = await near.offer_bulk(CONTENT, ttl_ms=60_000)
    assert await far.fetch_bulk(ticket, limit_bytes=2**24, timeout_ms=60_000) == CONTENT
    await near.close(CLOSE_NORMAL, "done")
    assert (await far.wait_closed()).text.endswith("done")
    with pytest.raises(ConnectionLost):
        await far.call("echo", b"", timeout_ms=1000)


async def test_over_tls(caplog):
    async with connected() as (dialed, accepted):
        near, far = await link(dialed, accepted)
        assert (near.remote_id, far.remote_id) == (BOB.node_id, ALICE.node_id)
        await converse(near, far)
    assert not caplog.records


@pytest.mark.virtual
async def test_over_memory():
    network = MemoryNetwork()
    alice, bob = memory_node(network, "alice", ALICE), memory_node(network, "bob", BOB)
    dialed, accepted = await asyncio.gather(
        alice.dial(BOB.node_id, sorted(await bob.listen()), timeout_ms=5000), bob.accept()
    )
    near, far = await link(dialed, accepted)
    await converse(near, far)
    assert asyncio.get_running_loop().time() < DRAIN_MS / 1000  # closing waited for nothing
    await alice.close(drain_ms=100)
    await bob.close(drain_ms=100)


@pytest.mark.virtual
async def test_a_crashed_peer_is_noticed_by_whoever_waits():
    network = MemoryNetwork()
    alice, bob = memory_node(network, "alice", ALICE), memory_node(network, "bob", BOB)
    dialed, accepted = await asyncio.gather(
        alice.dial(BOB.node_id, sorted(await bob.listen()), timeout_ms=5000), bob.accept()
    )
    near, far = await link(dialed, accepted)
    async with near.stream("park", b"", timeout_ms=600_000) as call:
        assert await anext(call) == b"parked"
        network.crash("bob")
        with pytest.raises(ConnectionLost):
            await call.result()
    await near.wait_closed()
    await far.wait_closed()
    await alice.close(drain_ms=100)
