"""What the memory transport adds to the contract: links that fail, and a run that repeats."""

import asyncio
import hashlib

import pytest

from swarmharness.kernel.ids import DEVELOPMENT_NETWORK, NodeId
from swarmharness.kernel.rng import Rng
from swarmharness.network.address import Address, TransportKind
from swarmharness.network.errors import (
    ConnectionLost,
    DialRefused,
    DialTimeout,
    IdentityMismatch,
    LimitExceeded,
    Unreachable,
)
from swarmharness.network.link_model import WAN, Cut, LinkModel, LinkProfile
from swarmharness.network.transport.memory import (
    MAX_CONNECTIONS,
    MemoryNetwork,
    MemoryTransport,
    now_us,
)
from swarmharness.network.transport.memory_connection import (
    MAX_BUFFERED_BYTES,
    MAX_STREAMS,
    UNANSWERED_LIMIT_MS,
)
from swarmharness.network.transport.memory_stream import WINDOW_BYTES, WRITE_HIGH_BYTES
from swarmharness.network.transport.seam import CLOSE_LOST
from swarmharness.simulator.loop import run_virtual

pytestmark = pytest.mark.virtual

SLOW = LinkProfile(latency_us=50_000)


async def start(network: MemoryNetwork, name: str) -> MemoryTransport:
    node_id = NodeId(hashlib.sha256(name.encode()).digest())
    transport = MemoryTransport(node_id, DEVELOPMENT_NETWORK, name=name, network=network)
    await transport.listen()
    return transport


async def connect(a: MemoryTransport, b: MemoryTransport, timeout_ms: int = 60_000):
    ours = await a.dial(b.node_id, [b.address], timeout_ms=timeout_ms)
    return ours, await b.accept()


async def linked(profile: LinkProfile = SLOW):
    network = MemoryNetwork(LinkModel(default=profile))
    a, b = await start(network, "a"), await start(network, "b")
    ours, theirs = await connect(a, b)
    stream = await ours.open_stream()
    accepted = await theirs.accept_stream()
    return network, ours, theirs, stream, accepted


async def test_a_dial_takes_two_round_trips_and_a_byte_half_a_one():
    _, ours, _, stream, accepted = await linked()
    opened_us = now_us()
    assert opened_us == 250_000
    assert ours.path().rtt_us == 100_000
    await stream.write(b"x")
    assert await accepted.read(1) == b"x"
    assert now_us() == opened_us + 50_000


async def test_held_bytes_go_on_in_order_after_a_partition():
    network, ours, theirs, stream, accepted = await linked()
    network.partition("a", "b")
    await stream.write(b"first ")
    await stream.write(b"second")
    await stream.finish()
    await accepted.write(b"the other way works")
    assert await stream.read(100) == b"the other way works"
    await asyncio.sleep(UNANSWERED_LIMIT_MS / 1000 - 1)
    network.heal("a", "b")
    assert await accepted.read(100) == b"first "
    assert await accepted.read(100) == b"second"
    assert await accepted.read(100) == b""
    await asyncio.sleep(2 * UNANSWERED_LIMIT_MS / 1000)
    assert not ours.is_closed
    assert not theirs.is_closed


async def test_a_long_partition_loses_the_connection_of_whoever_sends():
    network, ours, theirs, stream, _ = await linked()
    network.partition("a", "b")
    started_us = now_us()
    await stream.write(b"hello?")
    reason = await ours.wait_closed()
    assert (reason.code, reason.by_peer) == (CLOSE_LOST, None)
    assert now_us() - started_us == UNANSWERED_LIMIT_MS * 1000
    assert not theirs.is_closed  # it sent nothing and cannot know


async def test_a_refusing_link_breaks_connections_and_dials():
    network, ours, _, stream, _ = await linked()
    network.partition("a", "b", Cut.REFUSE)
    await stream.write(b"x")
    with pytest.raises(ConnectionLost):
        await stream.read(1)
    assert ours.is_closed
    a, b = network.node("a"), network.node("b")
    with pytest.raises(DialRefused):
        await connect(a, b)
    network.heal("a", "b")
    await connect(a, b)


async def test_one_way_silence_makes_dialling_time_out_in_both_directions():
    network, *_ = await linked()
    a, b = network.node("a"), network.node("b")
    network.partition("a", "b")
    for dialer, listener in ((a, b), (b, a)):
        started_us = now_us()
        with pytest.raises(DialTimeout):
            await connect(dialer, listener, timeout_ms=3000)
        assert now_us() - started_us == 3_000_000


async def test_a_node_that_starts_again_does_not_know_old_connections():
    network, ours, _, stream, _ = await linked()
    network.crash("b")
    b = await start(network, "b")
    assert not ours.is_closed
    await stream.write(b"remember me?")
    assert (await ours.wait_closed()).by_peer is None
    await connect(network.node("a"), b)


async def test_in_a_crashed_node_everything_ends():
    network, _, theirs, _, accepted = await linked()
    reading = asyncio.create_task(accepted.read(1))
    accepting = asyncio.create_task(network.node("b").accept())
    await asyncio.sleep(0)
    network.crash("b")
    for task in (reading, accepting):
        with pytest.raises(ConnectionLost):
            await task
    assert theirs.is_closed


async def test_a_node_that_cannot_be_dialled_dials_or_is_relayed():
    network = MemoryNetwork(LinkModel(default=SLOW))
    a, b, _ = [await start(network, name) for name in ("a", "b", "relay")]
    network.model.block_inbound("b")
    with pytest.raises(DialTimeout):
        await connect(a, b, timeout_ms=1000)
    direct, _ = await connect(b, a)
    assert not direct.path().relayed
    network.model.set_relay("relay")
    relayed, _ = await connect(a, b)
    assert relayed.path().relayed
    assert relayed.path().rtt_us == 2 * direct.path().rtt_us


async def test_a_slow_reader_takes_its_time():
    network, _, _, stream, accepted = await linked()
    network.model.slow_reader("b", 100_000)
    started_us = now_us()
    await stream.write(bytes(100_000))
    await stream.finish()
    while await accepted.read(100_000):
        pass
    assert 1_000_000 < now_us() - started_us < 1_200_000


async def test_a_stopped_reader_stops_the_writer_at_exactly_both_buffers():
    _, _, _, stream, _ = await linked()
    await stream.write(bytes(WINDOW_BYTES))
    await stream.write(bytes(WRITE_HIGH_BYTES))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3600):
            await stream.write(b"x")


async def test_too_much_for_slow_readers_is_a_limit():
    _, ours, _, _, _ = await linked()
    piece = bytes(WINDOW_BYTES + WRITE_HIGH_BYTES)
    for _ in range(MAX_BUFFERED_BYTES // len(piece)):
        await (await ours.open_stream()).write(piece)
    stream = await ours.open_stream()
    with pytest.raises(LimitExceeded):
        await stream.write(b"x")


async def test_streams_opened_at_once_from_both_sides_stay_within_the_limit():
    _, ours, theirs, *_ = await linked()
    for _ in range(MAX_STREAMS - 2):
        await ours.open_stream()
        await theirs.accept_stream()
        await asyncio.sleep(1)
    last = [await ours.open_stream(), await theirs.open_stream()]
    await asyncio.sleep(1)
    for stream in last:
        with pytest.raises(Exception, match="abandoned") as caught:
            await stream.read(1)
        assert caught.value.code == "network.stream_reset"


async def test_bytes_wait_for_those_before_them_and_overtake_other_streams():
    network, ours, theirs, stream, accepted = await linked()
    other, other_accepted = await ours.open_stream(), await theirs.accept_stream()
    started_us = now_us()
    network.model.set_profile("a", "b", LinkProfile(latency_us=9_000_000))
    await stream.write(b"late")
    network.model.set_profile("a", "b", LinkProfile(latency_us=1_000_000))
    await stream.write(b"behind")
    await other.write(b"before")
    assert await other_accepted.read(100) == b"before"
    assert now_us() - started_us == 1_000_000
    assert await accepted.read(100) == b"late"
    assert now_us() - started_us == 9_000_000
    assert await accepted.read(100) == b"behind"
    assert now_us() - started_us == 9_000_000


async def test_what_was_sent_before_the_close_arrives_before_it():
    _, ours, theirs, *_ = await linked(WAN)
    for _ in range(20):
        stream = await ours.open_stream()
        await stream.write(bytes(5000))
        await stream.finish()
    await ours.close(0, "done")
    await theirs.wait_closed()
    for _ in range(20):
        stream = await theirs.accept_stream()
        received = 0
        while piece := await stream.read(100_000):
            received += len(piece)
        assert received == 5000
    with pytest.raises(ConnectionLost):
        await theirs.accept_stream()


async def test_what_arrives_after_our_own_close_is_ignored():
    _, ours, theirs, *_ = await linked()
    await ours.open_stream()
    await theirs.close(0, "done")
    await asyncio.sleep(1)
    with pytest.raises(ConnectionLost):
        await theirs.accept_stream()


async def test_of_several_addresses_the_most_telling_failure_is_raised():
    network = MemoryNetwork()
    a, b, c = [await start(network, name) for name in "abc"]
    unknown = Address(TransportKind.MEMORY, "unknown")
    for addresses in ([b.address, unknown], [unknown, b.address]):
        with pytest.raises(IdentityMismatch):
            await a.dial(c.node_id, addresses, timeout_ms=1000)
    assert (await a.dial(c.node_id, [unknown, c.address], timeout_ms=1000)).remote_id == c.node_id


async def test_connections_are_limited_for_the_dialer_and_for_the_listener():
    network = MemoryNetwork()
    a, b, c, d = [await start(network, name) for name in "abcd"]
    for listener in (b, c):
        for _ in range(MAX_CONNECTIONS // 2):
            await connect(a, listener)
    with pytest.raises(LimitExceeded):
        await connect(a, d)
    with pytest.raises(DialRefused):
        await connect(d, a)


async def test_an_unknown_name_is_unreachable():
    network = MemoryNetwork()
    a = await start(network, "a")
    b = MemoryTransport(NodeId(b"\1" * 32), DEVELOPMENT_NETWORK, name="b", network=MemoryNetwork())
    with pytest.raises(Unreachable):
        await connect(a, b)


async def test_two_nodes_cannot_have_one_name():
    network = MemoryNetwork()
    await start(network, "a")
    with pytest.raises(AssertionError, match="two nodes"):
        await start(network, "a")


async def conversation(seed: int) -> list[tuple[int, int, int]]:
    network = MemoryNetwork(LinkModel(seed, default=WAN))
    a, b = await start(network, "a"), await start(network, "b")
    ours, theirs = await connect(a, b)
    seen: list[tuple[int, int, int]] = []
    draw = Rng(seed, "test")

    async def receive(index: int) -> None:
        stream = await theirs.accept_stream()
        while piece := await stream.read(100_000):
            seen.append((now_us(), index, len(piece)))

    async def send() -> None:
        stream = await ours.open_stream()
        for _ in range(10):
            await stream.write(bytes(draw.between(1, 50_000)))
        await stream.finish()

    async with asyncio.TaskGroup() as group:
        for index in range(8):
            group.create_task(receive(index))
            group.create_task(send())
    return seen


def test_a_run_repeats_and_another_seed_differs():
    first, again, other = (run_virtual(conversation(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert [index for _, index, _ in first] != sorted(index for _, index, _ in first)
