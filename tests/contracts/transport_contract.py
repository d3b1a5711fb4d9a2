"""What every transport must do, whatever carries its bytes.

Subclass `TransportContract` and give it a fixture `factory`. Nothing here looks at a clock or at
the inside of a transport; where "blocked" has to be told from "slow", `factory.settle()` waits,
and too short a wait can only make a check weaker, never make it fail.
"""

import asyncio
import gc
import random
from contextlib import suppress

import pytest

from contracts.two_nodes import (
    KIB,
    MIB,
    Flood,
    Node,
    cancelled,
    connect,
    outcome,
    read_all,
    stream_between,
    two_ends,
    two_nodes,
)
from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import NetworkId, NodeId
from swarmharness.network.errors import (
    ConnectionLost,
    DialRefused,
    DialTimeout,
    IdentityMismatch,
    LimitExceeded,
    NetworkMismatch,
    StreamReset,
    Unreachable,
)
from swarmharness.network.transport.seam import (
    CLOSE_GOING_AWAY,
    CLOSE_IDLE,
    CLOSE_LOST,
    CLOSE_NORMAL,
)

OTHER_NETWORK = NetworkId(b"\x07" * 32)
NOBODY = NodeId(b"\x05" * 32)


class TransportContract:
    # Who is there

    async def test_both_ends_know_who_is_there(self, factory):
        async with two_nodes(factory) as (a, b):
            ours, theirs = await connect(a, b)
            assert (ours.remote_id, ours.is_dialer) == (b.node_id, True)
            assert (theirs.remote_id, theirs.is_dialer) == (a.node_id, False)
            assert not ours.path().relayed
            assert ours.path().remote

    async def test_a_wrong_id_is_refused_and_never_surfaces(self, factory):
        async with two_nodes(factory) as (a, b):
            with pytest.raises(IdentityMismatch):
                await a.transport.dial(NOBODY, b.addresses, timeout_ms=20_000)
            ours, theirs = await connect(a, b)  # the first that accept yields
            stream, accepted = await stream_between(ours, theirs)
            await stream.finish()
            assert await accepted.read(9) == b""

    async def test_another_network_is_refused_before_any_payload(self, factory):
        async with asyncio.timeout(factory.hang_s):
            try:
                a = await factory.start("a")
                other = await factory.start("other", network_id=OTHER_NETWORK)
                with pytest.raises(NetworkMismatch):
                    await self._talk(a, other)
                with pytest.raises(NetworkMismatch):
                    await self._talk(other, a)
                b = await factory.start("b")
                _, theirs = await connect(b, a)
                assert theirs.remote_id == b.node_id  # nobody else was in the queue
            finally:
                await factory.close()

    async def _talk(self, dialer: Node, listener: Node) -> None:
        """A dialer may learn that it is refused only from the first answer."""
        connection = await dialer.transport.dial(
            listener.node_id, listener.addresses, timeout_ms=20_000
        )
        stream = await connection.open_stream()
        await stream.write(b"payload")
        await stream.read(1)

    async def test_a_node_does_not_connect_to_itself(self, factory):
        async with two_nodes(factory) as (a, _):
            with pytest.raises(SwarmError):
                await a.transport.dial(a.node_id, a.addresses, timeout_ms=20_000)

    async def test_a_closed_node_refuses(self, factory):
        async with two_nodes(factory) as (a, b):
            await b.transport.close(drain_ms=0)
            with pytest.raises(DialRefused):
                await a.transport.dial(b.node_id, b.addresses, timeout_ms=20_000)

    async def test_a_silent_address_times_out(self, factory):
        async with two_nodes(factory) as (a, b):
            silent = await factory.silent_address()
            with pytest.raises(DialTimeout):
                await a.transport.dial(b.node_id, [silent], timeout_ms=50)

    async def test_a_bad_address_does_not_spoil_a_good_one(self, factory):
        async with two_nodes(factory) as (a, b):
            silent = await factory.silent_address()
            dialled = await a.transport.dial(b.node_id, [silent, *b.addresses], timeout_ms=20_000)
            assert dialled.remote_id == b.node_id

    async def test_without_an_address_nobody_is_reachable(self, factory):
        async with two_nodes(factory) as (a, b):
            with pytest.raises(Unreachable):
                await a.transport.dial(b.node_id, [], timeout_ms=1000)

    async def test_addresses_are_watched(self, factory):
        async with two_nodes(factory) as (a, _):
            watch = a.transport.watch_addresses()
            assert await anext(aiter(watch)) == frozenset(a.addresses)
            await watch.aclose()

    # Bytes

    @pytest.mark.slow
    async def test_a_large_payload_arrives_in_order_both_ways(self, factory):
        draw = random.Random(1)
        block = draw.randbytes(251 * KIB)  # odd, so that positions differ from chunk to chunk
        payload = (block * (factory.large_bytes // len(block) + 1))[: factory.large_bytes]

        async def send(stream):
            position = 0
            while position < len(payload):
                size = draw.choice([1, 100, 1400, 70_000, 300_000])
                await stream.write(memoryview(payload)[position : position + size])
                position += size
            await stream.finish()

        async def receive(stream):
            position = 0
            while piece := await stream.read(draw.choice([1000, 65_536, 1_000_000])):
                assert piece == payload[position : position + len(piece)]
                position += len(piece)
            assert position == len(payload)

        async with two_ends(factory) as (ours, theirs):
            one, other = await stream_between(ours, theirs)
            async with asyncio.TaskGroup() as group:
                for end in (one, other):
                    group.create_task(send(end))
                    group.create_task(receive(end))

    @pytest.mark.slow
    async def test_200_streams_do_not_mix(self, factory):
        count = 200

        async def serve(stream):
            await stream.write(b"echo:" + await read_all(stream))
            await stream.finish()

        async def accept_all(theirs, group):
            for _ in range(count):
                group.create_task(serve(await theirs.accept_stream()))

        async def call(ours, number):
            stream = await ours.open_stream()
            text = f"stream {number};".encode() * (number + 1)
            await stream.write(text)
            await stream.finish()
            assert await read_all(stream) == b"echo:" + text

        async with two_ends(factory) as (ours, theirs), asyncio.TaskGroup() as group:
            group.create_task(accept_all(theirs, group))
            for number in range(count):
                group.create_task(call(ours, number))

    async def test_either_side_opens_streams(self, factory):
        async with two_ends(factory) as (ours, theirs):
            await stream_between(ours, theirs)
            await stream_between(theirs, ours)

    async def test_empty_writes_and_views_are_fine(self, factory):
        async with two_ends(factory) as (ours, theirs):
            stream, accepted = await stream_between(ours, theirs)
            await stream.write(b"")
            changing = bytearray(b"before")
            await stream.write(memoryview(changing))
            changing[:] = b"after!"  # the transport must have taken its own copy
            await stream.finish()
            assert await read_all(accepted) == b"before"

    @pytest.mark.slow
    async def test_a_reader_who_stops_blocks_the_writer(self, factory):
        async with two_ends(factory) as (ours, theirs):
            stream, accepted = await stream_between(ours, theirs)
            flood = Flood(stream)
            await flood.is_stuck(factory)
            assert 64 * KIB <= flood.accepted <= factory.stalled_bytes
            stuck_at = flood.accepted
            received = 0
            while received <= stuck_at:  # reading sets it going again
                received += len(await accepted.read(64 * KIB))
            await flood.is_stuck(factory)
            assert flood.accepted > stuck_at
            await cancelled(flood.task)

    async def test_a_stalled_stream_does_not_hold_up_another(self, factory):
        async with two_ends(factory) as (ours, theirs):
            stalled, _ = await stream_between(ours, theirs)
            flood = Flood(stalled)
            await flood.is_stuck(factory)
            free, accepted = await stream_between(ours, theirs)
            await free.write(b"x" * 100_000)
            await free.finish()
            assert len(await read_all(accepted)) == 100_000
            await cancelled(flood.task)

    # Endings of a stream

    async def test_each_direction_ends_by_itself(self, factory):
        async with two_ends(factory) as (ours, theirs):
            stream, accepted = await stream_between(ours, theirs)
            await stream.write(b"question")
            await stream.finish()
            assert await read_all(accepted) == b"question"
            assert await accepted.read(1) == b""
            await accepted.write(b"answer")
            await accepted.finish()
            assert await read_all(stream) == b"answer"
            assert await stream.read(1) == b""

    async def test_nothing_can_be_written_after_finish(self, factory):
        async with two_ends(factory) as (ours, theirs):
            stream, accepted = await stream_between(ours, theirs)
            await stream.finish()
            with pytest.raises(SwarmError):
                await stream.write(b"late")
            assert await read_all(accepted) == b""

    @pytest.mark.parametrize("code", [0, 7, 65_535])
    async def test_a_reset_reaches_the_reader(self, factory, code):
        async with two_ends(factory) as (ours, theirs):
            stream, accepted = await stream_between(ours, theirs)
            await stream.reset(code)
            with pytest.raises(StreamReset) as caught:
                await read_all(accepted)
            assert caught.value.data["reset_code"] == code
            with pytest.raises(SwarmError):
                await stream.write(b"late")
            await accepted.write(b"still open")
            await accepted.finish()
            assert await read_all(stream) == b"still open"

    @pytest.mark.parametrize("code", [0, 7, 65_535])
    async def test_a_stop_reaches_the_writer(self, factory, code):
        async with two_ends(factory) as (ours, theirs):
            stream, accepted = await stream_between(ours, theirs)
            flood = Flood(stream)
            await flood.is_stuck(factory)
            await accepted.stop(code)
            with pytest.raises(StreamReset) as caught:
                await flood.task
            assert caught.value.data["reset_code"] == code
            with pytest.raises(SwarmError):
                await accepted.read(1)
            await accepted.write(b"still open")
            await accepted.finish()
            assert await read_all(stream) == b"still open"

    async def test_a_waiting_reader_learns_of_a_reset(self, factory):
        async with two_ends(factory) as (ours, theirs):
            stream, accepted = await stream_between(ours, theirs)
            reading = asyncio.create_task(accepted.read(1))
            await factory.settle()
            await stream.reset(3)
            with pytest.raises(StreamReset):
                await reading

    async def test_endings_may_be_repeated(self, factory):
        async with two_ends(factory) as (ours, theirs):
            for first in ("finish", "reset", "stop"):
                stream, accepted = await stream_between(ours, theirs)
                for end in (stream, accepted):
                    for ending in (first, "finish", "reset", "stop", "finish", "reset", "stop"):
                        await (end.finish() if ending == "finish" else getattr(end, ending)(1))
            for connection in (ours, theirs, ours, theirs):
                await connection.close(CLOSE_NORMAL, "done")
            await stream.reset(1)
            await stream.stop(1)

    # Cancelling

    async def test_a_cancelled_read_loses_nothing(self, factory):
        async with two_ends(factory) as (ours, theirs):
            stream, accepted = await stream_between(ours, theirs)
            received = b""
            for number in range(20):
                reading = asyncio.create_task(accepted.read(100))
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                await stream.write(b"%d;" % number)
                reading.cancel()
                await asyncio.wait([reading])
                received += b"" if reading.cancelled() else reading.result()
            await stream.finish()
            received += await read_all(accepted)
            assert received == b"".join(b"%d;" % number for number in range(20))

    async def test_a_cancelled_write_poisons_the_stream(self, factory):
        async with two_ends(factory) as (ours, theirs):
            stream, accepted = await stream_between(ours, theirs)
            writing = asyncio.create_task(stream.write(bytes(4 * factory.stalled_bytes)))
            await factory.settle()
            await cancelled(writing)
            with pytest.raises(StreamReset):
                await read_all(accepted)
            with pytest.raises(SwarmError):
                await stream.write(b"more")
            await stream_between(ours, theirs)

    async def test_a_cancelled_accept_takes_nothing(self, factory):
        async with two_nodes(factory) as (a, b):
            accepting = asyncio.create_task(b.transport.accept())
            await factory.settle()
            await cancelled(accepting)
            ours, theirs = await connect(a, b)
            accepting = asyncio.create_task(theirs.accept_stream())
            await factory.settle()
            await cancelled(accepting)
            await stream_between(ours, theirs)

    async def test_a_cancelled_dial_leaves_nothing(self, factory):
        async with two_nodes(factory) as (a, b):
            silent = await factory.silent_address()
            for address in (silent, *b.addresses):
                for turns in range(4):
                    dialling = asyncio.create_task(
                        a.transport.dial(b.node_id, [address], timeout_ms=20_000)
                    )
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    await cancelled(dialling)
            ours = await a.transport.dial(b.node_id, b.addresses, timeout_ms=20_000)
            while True:  # a cancelled dial may have got as far as being accepted
                theirs = await b.transport.accept()
                waiting = asyncio.create_task(theirs.accept_stream())
                stream = await ours.open_stream()
                await stream.write(b"here")
                if isinstance(await outcome(waiting), SwarmError):
                    continue
                break

    # Closing and losing

    @pytest.mark.parametrize("who", ["we", "they"])
    async def test_closing_wakes_every_waiter_with_one_reason(self, factory, who):
        async with two_ends(factory) as (ours, theirs):
            idle, _ = await stream_between(ours, theirs)
            stalled, _ = await stream_between(ours, theirs)
            flood = Flood(stalled)
            await flood.is_stuck(factory)
            waiting = [
                asyncio.create_task(idle.read(1)),
                asyncio.create_task(ours.accept_stream()),
                flood.task,
            ]
            closed = [asyncio.create_task(end.wait_closed()) for end in (ours, ours, theirs)]
            await factory.settle()
            await (ours if who == "we" else theirs).close(CLOSE_IDLE, "enough for today")
            errors = [await outcome(task) for task in waiting]
            errors += [
                await outcome(idle.read(1)),
                await outcome(idle.write(b"x")),
                await outcome(ours.open_stream()),
                await outcome(ours.accept_stream()),
            ]
            assert {type(error) for error in errors} == {ConnectionLost}
            assert len({error.sentence for error in errors}) == 1
            first, second, far = [await task for task in closed]
            assert first == second == await ours.wait_closed()
            assert {first.code, far.code} == {CLOSE_IDLE}
            assert {first.text, far.text} == {"enough for today"}
            assert (first.by_peer, far.by_peer) == ((False, True) if who == "we" else (True, False))

    async def test_a_crashed_peer_is_noticed(self, factory):
        async with two_nodes(factory) as (a, b):
            ours, theirs = await connect(a, b)
            stream, _ = await stream_between(ours, theirs)
            reading = asyncio.create_task(stream.read(1))
            await factory.settle()
            await factory.crash(b)
            await outcome(stream.write(b"anybody there?"))  # only who speaks can notice
            with pytest.raises(ConnectionLost):
                await reading
            reason = await ours.wait_closed()
            assert (reason.code, reason.by_peer) == (CLOSE_LOST, None)

    async def test_closing_a_transport_wakes_dial_and_accept(self, factory):
        async with two_nodes(factory) as (a, b):
            silent = await factory.silent_address()
            silence_ms = factory.patience_ms
            waiting = [
                asyncio.create_task(a.transport.dial(b.node_id, [silent], timeout_ms=silence_ms)),
                asyncio.create_task(a.transport.accept()),
            ]
            await factory.settle()
            await a.transport.close(drain_ms=0)
            dialled, accepted = [await outcome(task) for task in waiting]
            assert isinstance(accepted, ConnectionLost)
            assert isinstance(dialled, SwarmError)
            assert not isinstance(dialled, DialTimeout), "it was not woken, its time ran out"
            assert isinstance(await outcome(a.transport.accept()), SwarmError)
            again = a.transport.dial(b.node_id, b.addresses, timeout_ms=1000)
            assert isinstance(await outcome(again), SwarmError)
            await a.transport.close(drain_ms=0)

    @pytest.mark.parametrize("reader", ["reads at once", "reads after the end"])
    async def test_closing_a_transport_delivers_what_was_written(self, factory, reader):
        async with two_nodes(factory) as (a, b):
            ours, theirs = await connect(a, b)
            stream, accepted = await stream_between(ours, theirs)
            await stream.write(bytes(100_000))
            await stream.finish()
            await a.transport.close(drain_ms=20_000)
            if reader == "reads after the end":
                await theirs.wait_closed()
            assert len(await read_all(accepted)) == 100_000
            reason = await theirs.wait_closed()
            assert (reason.code, reason.by_peer) == (CLOSE_GOING_AWAY, True)

    # Limits

    @pytest.mark.slow
    async def test_256_streams_and_not_one_more(self, factory):
        async with two_ends(factory) as (ours, theirs):
            streams = [await stream_between(ours, theirs) for _ in range(256)]
            with pytest.raises(LimitExceeded):
                await ours.open_stream()
            stream, accepted = streams[100]
            await stream.finish()
            await accepted.finish()
            assert await read_all(accepted) == await read_all(stream) == b""
            await factory.settle()
            await stream_between(ours, theirs)

    @pytest.mark.slow
    async def test_256_connections_and_not_one_more(self, factory):
        async with two_nodes(factory) as (a, b):
            ends = [await connect(a, b) for _ in range(256)]
            refused = a.transport.dial(b.node_id, b.addresses, timeout_ms=20_000)
            assert isinstance(await outcome(refused), SwarmError)
            for end in ends[7]:
                await end.close(CLOSE_NORMAL, "room")
                await end.wait_closed()
            await connect(a, b)

    @pytest.mark.slow
    async def test_a_connection_buffers_8_mib_and_not_more(self, factory):
        async with two_ends(factory) as (ours, theirs):
            count = 8 * MIB // (128 * KIB)
            floods = [Flood((await stream_between(ours, theirs))[0]) for _ in range(count)]
            for flood in floods:
                await flood.is_stuck(factory)
            full = [flood for flood in floods if flood.task.done()]  # the others wait
            assert {type(flood.task.exception()) for flood in full} <= {LimitExceeded}
            assert sum(flood.accepted for flood in floods) <= count * factory.stalled_bytes
            assert sum(flood.accepted for flood in floods) <= 8 * MIB + factory.wire_bytes
            for flood in floods:
                if not flood.task.done():
                    await cancelled(flood.task)

    # Leaks

    @pytest.mark.slow
    async def test_a_thousand_streams_leave_nothing(self, factory):
        async with two_ends(factory) as (ours, theirs):

            async def cycle():
                stream, accepted = await stream_between(ours, theirs)
                await stream.write(bytes(10_000))  # a thousand times this is over 8 MiB
                await stream.finish()
                await accepted.finish()
                assert len(await read_all(accepted)) == 10_000
                assert await read_all(stream) == b""

            await self._stays_flat(cycle, 1000, factory)

    @pytest.mark.slow
    async def test_many_connections_leave_nothing(self, factory):
        async with two_nodes(factory) as (a, b):

            async def cycle():
                ours, theirs = await connect(a, b)
                await ours.close(CLOSE_NORMAL, "done")
                await theirs.wait_closed()

            await self._stays_flat(cycle, factory.connection_cycles, factory)

    async def _stays_flat(self, cycle, count, factory):
        for _ in range(count // 10):
            await cycle()
        await factory.settle()
        gc.collect()
        objects, tasks = len(gc.get_objects()), len(asyncio.all_tasks())
        for _ in range(count):
            await cycle()
        await factory.settle()
        gc.collect()
        assert len(gc.get_objects()) - objects < count // 5
        assert len(asyncio.all_tasks()) == tasks

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(4))
    async def test_whatever_is_done_only_swarm_errors_come_out(self, factory, seed):
        draw = random.Random(seed)

        async def perform(deed):
            return await outcome(deed())

        async def misuse(stream):
            for _ in range(draw.randrange(1, 12)):
                deed = draw.choice(
                    [
                        lambda: stream.write(bytes(draw.choice([0, 1, 5000, 200_000]))),
                        lambda: stream.read(draw.choice([1, 100_000])),
                        stream.finish,
                        lambda: stream.reset(1),
                        lambda: stream.stop(2),
                    ]
                )
                task = asyncio.create_task(perform(deed))
                for _ in range(draw.randrange(6)):
                    await asyncio.sleep(0)
                if draw.random() < 0.5:
                    task.cancel()
                await asyncio.wait([task], timeout=0.01)
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    task.result()

        async def accept(theirs, group):
            with suppress(SwarmError):
                while True:
                    group.create_task(misuse(await theirs.accept_stream()))

        async with two_ends(factory) as (ours, theirs), asyncio.TaskGroup() as group:
            group.create_task(accept(theirs, group))
            async with asyncio.TaskGroup() as users:
                for _ in range(30):
                    users.create_task(misuse(await ours.open_stream()))
            await ours.close(CLOSE_NORMAL, "done")
