import asyncio
import hashlib
import random
import socket

import pytest

from network.tls_pair import (
    ALICE,
    BOB,
    MALLORY,
    OTHER_NETWORK,
    PATIENCE_MS,
    connected,
    fake_server,
    node,
    raw_client,
)
from swarmharness.kernel.signing import KeyPair
from swarmharness.network.address import Address, TransportKind
from swarmharness.network.client_proof import prove
from swarmharness.network.errors import (
    ConnectionLost,
    DialRefused,
    DialTimeout,
    IdentityMismatch,
    LimitExceeded,
    NetworkMismatch,
    PeerBusy,
    StreamReset,
    Unreachable,
)
from swarmharness.network.receive_window import WINDOW_BYTES_MAX
from swarmharness.network.records import RecordKind, record
from swarmharness.network.transport.seam import CLOSE_GOING_AWAY, CLOSE_IDLE, CLOSE_LOST
from swarmharness.network.transport.tls import TlsTransport
from swarmharness.network.transport.tls_limits import TlsLimits
from swarmharness.network.transport.tls_stream import RESET_CANCELLED


async def read_to_end(stream, max_bytes=65536):
    parts = []
    while part := await stream.read(max_bytes):
        assert len(part) <= max_bytes
        parts.append(part)
    return b"".join(parts)


async def stream_pair(opener, accepter):
    ours = await opener.open_stream()
    return ours, await accepter.accept_stream()


async def free_place():
    """A loopback port on which nothing listens."""
    async with fake_server() as server:
        return server.place


async def test_both_ends_know_each_other():
    async with connected() as (there, back):
        assert (there.remote_id, there.is_dialer) == (BOB.node_id, True)
        assert (back.remote_id, back.is_dialer) == (ALICE.node_id, False)
        assert there.path().remote.startswith("tls://127.0.0.1:")
        assert not there.path().relayed


async def test_streams_flow_in_both_directions_whoever_opens_them():
    async with connected() as (there, back):
        for opener, accepter in ((there, back), (back, there)) * 2:
            ours, theirs = await stream_pair(opener, accepter)
            await ours.write(b"question")
            await ours.finish()
            assert await read_to_end(theirs) == b"question"
            await theirs.write(memoryview(b"answer"))
            await theirs.finish()
            assert await read_to_end(ours) == b"answer"
            assert await ours.read(1) == b""


@pytest.mark.parametrize("nth", [1, 2])
async def test_megabytes_arrive_in_order_through_random_pieces(nth):
    rng = random.Random(nth)
    content = rng.randbytes(6 * 1024 * 1024)
    async with connected() as (there, back):
        for _ in range(nth):
            ours, theirs = await stream_pair(there, back)

        async def send():
            at = 0
            while at < len(content):
                size = rng.choice((1, 100, 5_000, 200_000, 1_000_000))
                await ours.write(content[at : at + size])
                at += size
            await ours.finish()

        sender = asyncio.create_task(send())
        digest = hashlib.sha256()
        while part := await theirs.read(rng.choice((1, 70, 4_096, 65_536, 300_000))):
            digest.update(part)
        await sender
        assert digest.digest() == hashlib.sha256(content).digest()


async def test_many_streams_at_once_do_not_mix():
    async with connected() as (there, back):

        async def answer():
            stream = await back.accept_stream()
            await stream.write((await read_to_end(stream))[::-1])
            await stream.finish()

        async def ask(number):
            stream = await there.open_stream()
            await stream.write(b"%d " % number * 100)
            await stream.finish()
            assert await read_to_end(stream) == (b"%d " % number * 100)[::-1]

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(answer())
                group.create_task(ask(number))
        assert there._streams == back._streams == set()


async def test_the_acceptor_opens_many_streams_at_once():
    async with connected() as (there, back):

        async def ask(number):
            stream = await back.open_stream()
            await stream.write(b"%d" % number)
            await stream.finish()

        async with asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(ask(number))
        arrived = [await there.accept_stream() for _ in range(60)]
        found = {await read_to_end(stream) for stream in arrived}
        assert found == {b"%d" % number for number in range(60)}


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_stopped_reader_blocks_the_writer_and_reading_frees_it(nth):
    async with connected() as (there, back):
        for _ in range(nth):
            ours, theirs = await stream_pair(there, back)
        written = 0

        async def write_on():
            nonlocal written
            for _ in range(64):
                await ours.write(b"x" * 32_768)
                written += 32_768

        writer = asyncio.create_task(write_on())
        witness, other_end = await stream_pair(there, back)
        for _ in range(50):  # round trips on a neighbour: the blocked stream had its time
            await witness.write(b"?")
            await other_end.read(1)
        assert not writer.done()
        assert WINDOW_BYTES_MAX - 65_536 <= written <= WINDOW_BYTES_MAX
        received = 0
        while received < 64 * 32_768:
            received += len(await theirs.read(65_536))
        await writer


async def test_reset_and_stop_carry_their_codes():
    async with connected() as (there, back):
        for _ in range(2):
            ours, theirs = await stream_pair(there, back)
            await ours.write(b"never read")
            await ours.reset(41)
            await ours.reset(42)
            with pytest.raises(StreamReset) as caught:
                await read_past(theirs)
            assert caught.value.data["reset_code"] == 41
            await ours.stop(43)
            await ours.stop(44)
            with pytest.raises(StreamReset) as caught:
                await theirs.write(b"x" * 4 * WINDOW_BYTES_MAX)
            assert caught.value.data["reset_code"] == 43
            with pytest.raises(StreamReset):
                await ours.read(1)
            with pytest.raises(StreamReset):
                await ours.write(b"late")


async def read_past(stream):
    while await stream.read(65536):
        pass


async def test_writing_after_the_own_end_is_refused():
    async with connected() as (there, back):
        ours, theirs = await stream_pair(there, back)
        await ours.finish()
        await ours.finish()
        with pytest.raises(StreamReset, match="already finished"):
            await ours.write(b"more")
        assert await theirs.read(10) == b""
        await theirs.write(b"the other way is open")
        assert await ours.read(100) == b"the other way is open"


async def test_an_empty_write_sends_nothing():
    async with connected() as (there, back):
        ours, theirs = await stream_pair(there, back)
        await ours.write(b"")
        await ours.finish()
        assert await theirs.read(10) == b""


async def test_a_cancelled_read_loses_nothing():
    async with connected() as (there, back):
        ours, theirs = await stream_pair(there, back)
        reader = asyncio.create_task(theirs.read(10))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await ours.write(b"whole")
        assert await theirs.read(10) == b"whole"


async def test_a_cancelled_write_resets_the_stream():
    async with connected() as (there, back):
        ours, theirs = await stream_pair(there, back)
        writer = asyncio.create_task(ours.write(b"x" * 4 * WINDOW_BYTES_MAX))
        assert await theirs.read(1) == b"x"
        writer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writer
        with pytest.raises(StreamReset) as caught:
            await read_past(theirs)
        assert caught.value.data["reset_code"] == RESET_CANCELLED
        with pytest.raises(StreamReset):
            await ours.write(b"more")


async def test_close_wakes_everybody_with_one_reason():
    async with connected() as (there, back):
        ours, theirs = await stream_pair(there, back)
        second, second_end = await stream_pair(there, back)
        waiting = [
            asyncio.create_task(what)
            for what in (
                theirs.read(1),
                ours.write(b"x" * 4 * WINDOW_BYTES_MAX),
                second_end.read(1),
                second.read(1),
                back.accept_stream(),
                there.accept_stream(),
            )
        ]
        await asyncio.sleep(0)
        await back.close(CLOSE_IDLE, "Nothing to do.")
        await back.close(9, "another word")
        reason = await there.wait_closed()
        assert reason == (CLOSE_IDLE, "Nothing to do.", True)
        assert await back.wait_closed() == (CLOSE_IDLE, "Nothing to do.", False)
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert type(outcome) is ConnectionLost
            assert "Nothing to do." in outcome.sentence
            assert outcome.data["close_code"] == CLOSE_IDLE
        for connection in (there, back):
            with pytest.raises(ConnectionLost):
                await connection.open_stream()
            with pytest.raises(ConnectionLost):
                await connection.accept_stream()
        assert there.path().rtt_us is None


async def test_what_arrived_before_the_peer_s_close_can_still_be_read():
    async with connected() as (there, back):
        ours, theirs = await stream_pair(there, back)
        await ours.write(b"last words")
        await ours.finish()
        await there.close(0, "done")
        await back.wait_closed()
        assert await read_to_end(theirs) == b"last words"


async def test_close_while_a_stream_is_being_opened():
    async with connected() as (there, back):
        await stream_pair(there, back)
        opening = [asyncio.create_task(end.open_stream()) for end in (there, back)]
        await asyncio.sleep(0)
        await there.close(0, "changed my mind")
        for outcome in await asyncio.gather(*opening, return_exceptions=True):
            assert isinstance(outcome, ConnectionLost)


async def test_cancelled_openings_leave_the_connection_usable():
    async with connected() as (there, back):
        await stream_pair(there, back)
        for turns in range(12):
            for end in (there, back):
                opening = asyncio.create_task(end.open_stream())
                for _ in range(turns):
                    await asyncio.sleep(0)
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
        marker = b"after all that"
        ours = await there.open_stream()
        await ours.write(marker)
        await ours.finish()
        while True:
            theirs = await back.accept_stream()
            try:
                if await read_to_end(theirs) == marker:
                    break
            except (StreamReset, ConnectionLost):
                continue


async def test_a_peer_that_vanishes_is_noticed():
    async with connected() as (there, back):
        ours, theirs = await stream_pair(there, back)
        second, second_end = await stream_pair(there, back)
        await ours.write(b"before")
        assert await theirs.read(10) == b"before"
        reading = [asyncio.create_task(end.read(1)) for end in (theirs, second_end)]
        await asyncio.sleep(0)
        there._primary.abort()
        second.channel.abort()
        there.lost(None)
        reason = await back.wait_closed()
        assert (reason.code, reason.by_peer) == (CLOSE_LOST, None)
        for outcome in await asyncio.gather(*reading, return_exceptions=True):
            assert type(outcome) is ConnectionLost


async def test_losing_one_attached_channel_ends_one_stream_only():
    async with connected() as (there, back):
        ours, theirs = await stream_pair(there, back)
        second, second_end = await stream_pair(there, back)
        second.channel.abort()
        second.lost(lambda: ConnectionLost("cut"))
        with pytest.raises(ConnectionLost, match="One stream's channel"):
            await second_end.read(1)
        await ours.write(b"alive")
        assert await theirs.read(10) == b"alive"


async def test_streams_are_limited_on_both_sides():
    few = TlsLimits(streams=3)
    async with connected(dialer_limits=few) as (there, back):
        streams = [await there.open_stream() for _ in range(3)]
        with pytest.raises(LimitExceeded, match="already carries 3 streams"):
            await there.open_stream()
        with pytest.raises(Unreachable):  # the dialer abandons the token
            await back.open_stream()
        ends = [await back.accept_stream() for _ in range(3)]
        await streams[2].finish()
        await ends[2].finish()
        assert await streams[2].read(1) == b""
        assert await ends[2].read(1) == b""
        assert await there.open_stream()
    async with connected(acceptor_limits=few) as (there, back):
        for _ in range(3):
            await there.open_stream()
        with pytest.raises(LimitExceeded, match="takes no more streams"):
            await there.open_stream()


async def test_connections_are_limited_on_both_sides():
    one = TlsLimits(connections=1)
    async with (
        node(ALICE, listens=False, limits=one) as (alice, _),
        node(MALLORY, listens=False) as (mallory, _),
        node(BOB, limits=one) as (bob, places),
    ):
        first = await alice.dial(BOB.node_id, places, timeout_ms=PATIENCE_MS)
        with pytest.raises(LimitExceeded, match="already has 1 connections"):
            await alice.dial(BOB.node_id, places, timeout_ms=PATIENCE_MS)
        with pytest.raises(PeerBusy, match="already has 1 connections"):
            await mallory.dial(BOB.node_id, places, timeout_ms=PATIENCE_MS)
        await first.close(0, "room for others")
        await (await bob.accept()).wait_closed()
        assert await mallory.dial(BOB.node_id, places, timeout_ms=PATIENCE_MS)


async def test_dialling_the_wrong_node_or_network():
    async with (
        node(ALICE, listens=False) as (alice, _),
        node(MALLORY, listens=False, network=OTHER_NETWORK) as (mallory, _),
        node(BOB) as (bob, places),
    ):
        with pytest.raises(IdentityMismatch, match=r"is .*, not ") as caught:
            await alice.dial(MALLORY.node_id, places, timeout_ms=PATIENCE_MS)
        assert caught.value.data["actual"] == BOB.node_id.hex()
        with pytest.raises(NetworkMismatch, match="is in network"):
            await mallory.dial(BOB.node_id, places, timeout_ms=PATIENCE_MS)
        with pytest.raises(IdentityMismatch, match="this node itself"):
            await alice.dial(ALICE.node_id, places, timeout_ms=PATIENCE_MS)
        assert not bob._connections
        assert not bob._arrived._items


async def test_dialling_where_nobody_is():
    place = await free_place()
    async with node(ALICE, listens=False) as (alice, _):
        with pytest.raises(DialRefused, match=f"nothing listens on port {place.port}"):
            await alice.dial(BOB.node_id, [place], timeout_ms=PATIENCE_MS)
        with pytest.raises(Unreachable, match="No address"):
            await alice.dial(
                BOB.node_id, [Address(TransportKind.MEMORY, "bob")], timeout_ms=PATIENCE_MS
            )


async def test_dialling_what_is_no_address(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with node(ALICE, listens=False) as (alice, _):
        for host, port in (("a..b", 1), ("nul\0", 1), ("127.0.0.1", 99_999), ("127.0.0.1", -1)):
            place = Address(TransportKind.TLS, host, port)
            with pytest.raises(Unreachable, match="is not an address to dial"):
                await alice.dial(BOB.node_id, [place], timeout_ms=PATIENCE_MS)
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        place = Address(TransportKind.TLS, "unknown.invalid", 1)
        with pytest.raises(Unreachable, match="cannot be reached: Name or service not known"):
            await alice.dial(BOB.node_id, [place], timeout_ms=PATIENCE_MS)


async def test_a_silent_listener_times_the_dial_out():
    async with fake_server() as server:
        async with node(ALICE, listens=False) as (alice, _):
            with pytest.raises(DialTimeout, match="no answer in 30 ms"):
                await alice.dial(BOB.node_id, [server.place], timeout_ms=30)
        async with node(ALICE, listens=False, limits=TlsLimits(handshake_ms=30)) as (alice, _):
            with pytest.raises(DialTimeout, match="within 30 ms"):
                await alice.dial(BOB.node_id, [server.place], timeout_ms=PATIENCE_MS)


async def test_the_race_goes_on_to_the_address_that_works():
    nobody = await free_place()
    async with (
        node(ALICE, listens=False) as (alice, _),
        node(MALLORY) as (_, wrong),
        node(BOB) as (_, right),
    ):
        there = await alice.dial(BOB.node_id, [nobody, *wrong, *right], timeout_ms=PATIENCE_MS)
        assert there.remote_id == BOB.node_id
        with pytest.raises(IdentityMismatch):  # says more than the refusal
            await alice.dial(BOB.node_id, [nobody, *wrong], timeout_ms=PATIENCE_MS)


async def test_a_race_at_once_keeps_one_connection_and_closes_the_losers():
    async with (
        node(ALICE, listens=False, limits=TlsLimits(stagger_ms=0)) as (alice, _),
        node(BOB) as (bob, places),
    ):
        there = await alice.dial(BOB.node_id, places * 5, timeout_ms=PATIENCE_MS)
        assert list(alice._connections) == [there]
        stream = await there.open_stream()
        await stream.write(b"me")
        for connection in [await bob.accept() for _ in range(len(bob._connections))]:
            if not connection.is_over and connection._streams:
                assert await (await connection.accept_stream()).read(2) == b"me"


async def test_cancelled_dials_leave_nothing():
    async with node(ALICE, listens=False) as (alice, _), node(BOB) as (_, places):
        for turns in range(25):
            dialling = asyncio.create_task(alice.dial(BOB.node_id, places, timeout_ms=PATIENCE_MS))
            for _ in range(turns):
                await asyncio.sleep(0)
            dialling.cancel()
            (outcome,) = await asyncio.gather(dialling, return_exceptions=True)
            if not isinstance(outcome, BaseException):
                await outcome.close(0, "not cancelled in time")
        await alice._until_all_gone()
        assert not alice._connections


async def test_the_transport_s_close_says_goodbye_and_refuses_further_work():
    async with node(ALICE, listens=False) as (alice, _), node(BOB) as (bob, places):
        there = await alice.dial(BOB.node_id, places, timeout_ms=PATIENCE_MS)
        waiting = asyncio.create_task(alice.accept())
        await asyncio.sleep(0)
        await bob.close(drain_ms=500)
        assert (await there.wait_closed())[:2] == (CLOSE_GOING_AWAY, "The node is going away.")
        with pytest.raises(DialRefused):
            await alice.dial(BOB.node_id, places, timeout_ms=PATIENCE_MS)
        await alice.close(drain_ms=0)
        await alice.close(drain_ms=0)
        with pytest.raises(ConnectionLost, match="closed"):
            await waiting
        with pytest.raises(ConnectionLost, match="closed"):
            await alice.dial(BOB.node_id, places, timeout_ms=PATIENCE_MS)


async def test_a_peer_that_ignores_the_goodbye_does_not_hold_the_close_up():
    async with (
        node(BOB, limits=TlsLimits(linger_ms=PATIENCE_MS)) as (bob, (place,)),
        raw_client(place) as raw,
    ):
        proof = prove(ALICE, bob._network_id, BOB.node_id, (await raw.challenge()).nonce)
        raw.writer.write(record(RecordKind.AUTH, proof.encode()))
        assert await raw.record() == (RecordKind.WELCOME, b"")
        await bob.close(drain_ms=0)
        assert not bob._channels


async def test_addresses_are_watched_until_the_close():
    async with node(BOB) as (bob, places):
        seen = []

        async def watch():
            seen.extend([sorted(addresses) async for addresses in bob.watch_addresses()])

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        await bob.close(drain_ms=0)
        await watching
        assert seen == [places]


async def test_listening_on_a_taken_port_and_on_all_addresses():
    async with node(BOB) as (_, (place,)):
        second = TlsTransport(ALICE, OTHER_NETWORK, ("127.0.0.1", place.port))
        with pytest.raises(Unreachable, match=f"cannot listen on 127.0.0.1:{place.port}"):
            await second.listen()
        await second.close(drain_ms=0)
    everywhere = TlsTransport(BOB, OTHER_NETWORK, ("0.0.0.0", 0))
    hosts = {address.host for address in await everywhere.listen()}
    assert "127.0.0.1" in hosts
    assert "0.0.0.0" not in hosts
    await everywhere.close(drain_ms=0)


async def test_a_hundred_streams_one_after_another_leave_no_state():
    async with connected() as (there, back):
        await stream_pair(there, back)
        for _ in range(100):
            ours, theirs = await stream_pair(there, back)
            await ours.finish()
            await theirs.finish()
            assert await ours.read(1) == await theirs.read(1) == b""
        assert len(there._streams) == len(back._streams) == 1
        assert not there._asked
        assert not back._promised


async def test_many_nodes_meet_at_one():
    async with node(BOB) as (bob, places):
        keys = [KeyPair(bytes([n]) * 32) for n in range(1, 11)]
        dialers = [TlsTransport(key, bob._network_id, None) for key in keys]
        await asyncio.gather(
            *(d.dial(BOB.node_id, places, timeout_ms=PATIENCE_MS) for d in dialers)
        )
        met = {(await bob.accept()).remote_id for _ in keys}
        assert met == {key.node_id for key in keys}
        for dialer in dialers:
            await dialer.close(drain_ms=500)
