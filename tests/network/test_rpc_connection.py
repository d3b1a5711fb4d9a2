import asyncio
import gc

import pytest

from network.rpc_pair import connection_pair
from swarmharness.kernel.errors import InternalError, SwarmError
from swarmharness.network.errors import (
    CallCancelled,
    ConnectionLost,
    DeadlineExceeded,
    MessageTooLarge,
    NetworkMismatch,
    PeerBusy,
    UnknownMethod,
)
from swarmharness.network.io.rpc_connection import RpcConnection
from swarmharness.network.rpc.call_budget import CallBudget
from swarmharness.network.rpc.limits import CALLS_PER_PEER, MAX_MESSAGE_BYTES
from swarmharness.network.rpc.messages import Hello
from swarmharness.network.transport.seam import CLOSE_DUPLICATE, CLOSE_NORMAL

HELLO = Hello(b"n" * 32, b"r" * 16, agent="test")


class LoopClock:
    def now_us(self):
        return int(asyncio.get_running_loop().time() * 1_000_000)

    def wall_ms(self):
        return 0


class Linked:
    """Two started RPC connections; `near` dialled and calls, `far` serves `methods`."""

    def __init__(self, *, near_methods=None, budget=None, **methods):
        self.ends = connection_pair()
        self.methods = methods
        self.near_methods = near_methods or {}
        self.budget = budget or CallBudget()

    async def __aenter__(self):
        near, far = self.ends
        clock = LoopClock()
        self.near = RpcConnection(near, methods=self.near_methods, hello=HELLO, clock=clock)
        self.far = RpcConnection(
            far, methods=self.methods, hello=HELLO, clock=clock, budget=self.budget
        )
        await asyncio.gather(self.near.start(), self.far.start())
        return self

    async def __aexit__(self, *_):
        await self.near.close(CLOSE_NORMAL, "the test is over", drain_ms=1)
        await self.far.close(CLOSE_NORMAL, "the test is over", drain_ms=1)
        assert self.budget.taken == 0
        assert self.far.calls_serving == 0
        assert self.near.calls_waiting == 0


async def echo(call):
    return call.body


def parked():
    """A method that waits to be cancelled, and futures that tell how far it came."""
    started = asyncio.get_running_loop().create_future()
    cancelled = asyncio.get_running_loop().create_future()

    async def park(call):
        if not started.done():
            started.set_result(call)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if not cancelled.done():
                cancelled.set_result(call.body)
            raise

    return park, started, cancelled


async def test_a_call_is_answered_and_both_sides_know_each_other():
    async with Linked(echo=echo) as link:
        assert await link.near.call("echo", b"hello", timeout_ms=1000) == b"hello"
        assert link.near.peer_hello == HELLO
        assert link.near.remote_id != link.far.remote_id
        assert link.near.is_open


async def test_the_acceptor_may_call_too():
    async with Linked(near_methods={"echo": echo}) as link:
        assert await link.far.call("echo", b"hello", timeout_ms=1000) == b"hello"


async def test_what_the_handler_sees():
    seen = []

    async def look(call):
        seen.append((call.method, call.caller, call.idempotency_key, call.trace, call.is_streamed))
        assert 0 < call.remaining_ms() <= 5000
        assert not call.is_background
        return b""

    async with Linked(look=look) as link:
        await link.near.call(
            "look", b"", timeout_ms=5000, idempotency_key=b"k" * 16, trace=b"trace"
        )
        assert seen == [("look", link.far.remote_id, b"k" * 16, b"trace", False)]


@pytest.mark.parametrize("size", [0, 1, 65_000, 65_536, 200_000, MAX_MESSAGE_BYTES])
async def test_messages_of_any_allowed_size(size):
    async with Linked(echo=echo) as link:
        body = bytes(range(256)) * (size // 256) + bytes(size % 256)
        assert await link.near.call("echo", body, timeout_ms=10_000) == body


async def test_one_byte_too_many_is_refused_on_either_side():
    async def long(_):
        return bytes(MAX_MESSAGE_BYTES + 1)

    async with Linked(long=long) as link:
        with pytest.raises(MessageTooLarge):
            await link.near.call("long", bytes(MAX_MESSAGE_BYTES + 1), timeout_ms=1000)
        with pytest.raises(MessageTooLarge, match="answer"):
            await link.near.call("long", b"", timeout_ms=1000)


async def test_many_large_answers_at_once_do_not_look_like_a_peer_that_never_reads():
    async with Linked(echo=echo) as link:
        body = bytes(MAX_MESSAGE_BYTES)
        calls = [link.near.call("echo", body, timeout_ms=20_000) for _ in range(20)]
        assert all(answer == body for answer in await asyncio.gather(*calls))


async def test_an_unknown_method():
    async with Linked() as link:
        with pytest.raises(UnknownMethod, match="nothing"):
            await link.near.call("nothing", b"", timeout_ms=1000)
        async with link.near.stream("nothing", b"", timeout_ms=1000) as call:
            await call.send(b"on the way already")
            with pytest.raises(UnknownMethod):
                await call.result()


async def test_a_refusal_arrives_as_the_same_class():
    async def refuse(_):
        raise PeerBusy("Not now.", data={"retry_after_ms": 7})

    async with Linked(refuse=refuse) as link:
        with pytest.raises(PeerBusy, match="Not now") as caught:
            await link.near.call("refuse", b"", timeout_ms=1000)
        assert caught.value.data == {"retry_after_ms": 7}


async def test_a_fault_in_a_handler_is_logged_here_and_hidden_there(caplog):
    async def crash(_):
        raise ValueError("a secret path")

    async def confused(_):
        return "text"

    async with Linked(crash=crash, confused=confused) as link:
        for method in ("crash", "confused"):
            with pytest.raises(InternalError) as caught:
                await link.near.call(method, b"", timeout_ms=1000)
            assert caught.value.blame == "peer"
            assert "secret" not in caught.value.sentence
    assert "a secret path" in caplog.text


async def test_leaving_a_call_cancels_its_handler():
    park, started, cancelled = parked()
    async with Linked(park=park, echo=echo) as link:
        caller = asyncio.create_task(link.near.call("park", b"me", timeout_ms=60_000))
        await started
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert await cancelled == b"me"
        assert await link.near.call("echo", b"still here", timeout_ms=1000) == b"still here"


async def test_a_call_cancelled_before_its_handler_ran_is_released():
    ran = []

    async def note(_):
        ran.append(1)
        return b""

    async with Linked(note=note, echo=echo) as link:
        async with link.near.stream("note", b"", timeout_ms=1000):
            assert not ran  # REQUEST and CANCEL leave in one write
        await link.near.call("echo", b"", timeout_ms=1000)
        assert not ran
        assert link.far.calls_serving == 0


async def test_a_call_cancelled_before_it_was_written_is_never_sent():
    async with Linked(echo=echo) as link:
        caller = asyncio.create_task(link.near.call("echo", b"", timeout_ms=1000))
        asyncio.get_running_loop().call_soon(caller.cancel)
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert await link.near.call("echo", b"x", timeout_ms=1000) == b"x"


@pytest.mark.virtual
async def test_the_deadline_holds_on_both_sides():
    park, started, cancelled = parked()
    async with Linked(park=park) as link:
        loop = asyncio.get_running_loop()
        before = loop.time()
        with pytest.raises(DeadlineExceeded):
            await link.near.call("park", b"late", timeout_ms=250)
        assert 0.2 <= loop.time() - before <= 0.26
        assert await cancelled == b"late"
        assert started.result().remaining_ms() == 0


@pytest.mark.virtual
async def test_a_handler_that_ignores_its_deadline_still_costs_the_caller_nothing():
    release = asyncio.get_running_loop().create_future()

    async def stubborn(_):
        while not release.done():
            try:
                await asyncio.shield(release)
            except asyncio.CancelledError:
                continue
        return b"too late"

    async with Linked(stubborn=stubborn) as link:
        with pytest.raises(DeadlineExceeded):
            await link.near.call("stubborn", b"", timeout_ms=100)
        assert link.far.calls_serving == 1  # it counts until it has unwound
        release.set_result(None)


async def test_items_travel_both_ways_and_then_comes_the_answer():
    async def double(call):
        count = 0
        async for item in call:
            await call.send(item * 2)
            count += 1
        return str(count).encode()

    async with (
        Linked(double=double) as link,
        link.near.stream("double", b"", timeout_ms=5000) as call,
    ):
        await call.send(b"a")
        await call.send(b"")
        await call.send(b"b")
        await call.finish()
        assert [item async for item in call] == [b"aa", b"", b"bb"]
        assert await call.result() == b"3"


async def test_a_stream_far_larger_than_every_window_arrives_whole_and_in_order():
    async def count(call):
        for number in range(300):
            await call.send(number.to_bytes(4, "big") * 10_000)
        return b"done"

    async with (
        Linked(count=count) as link,
        link.near.stream("count", b"", timeout_ms=20_000) as call,
    ):
        numbers = [int.from_bytes(item[:4], "big") async for item in call]
        assert await call.result() == b"done"
        assert numbers == list(range(300))


async def test_items_of_the_largest_size_pass_a_smaller_window():
    item = bytes(MAX_MESSAGE_BYTES)

    async def large(call):
        for _ in range(6):
            await call.send(item)
        return b""

    async with (
        Linked(large=large) as link,
        link.near.stream("large", b"", timeout_ms=20_000) as call,
    ):
        assert [received == item async for received in call] == [True] * 6


async def test_a_reader_that_stops_blocks_its_sender_but_no_other_call():
    sent = 0

    async def flood(call):
        nonlocal sent
        while True:
            await call.send(bytes(10_000))
            sent += 1

    async with (
        Linked(flood=flood, echo=echo) as link,
        link.near.stream("flood", b"", timeout_ms=60_000),
    ):
        for _ in range(200):
            await link.near.call("echo", b"", timeout_ms=1000)
        assert 20 < sent < 30  # 256 KiB, and what one item may overdraw


async def test_the_answer_drops_what_nobody_read_and_the_windows_recover():
    async def many(call):
        for _ in range(20):
            await call.send(bytes(10_000))
        return b"end"

    async with Linked(many=many) as link:
        for _ in range(40):  # in sum more than the connection's window
            async with link.near.stream("many", b"", timeout_ms=5000) as call:
                assert await call.result() == b"end"


async def test_leaving_a_stream_early_cancels_it_and_gives_its_window_back():
    async def endless(call):
        while True:
            await call.send(bytes(100_000))

    async with Linked(endless=endless) as link:
        for _ in range(40):
            async with link.near.stream("endless", b"", timeout_ms=5000) as call:
                async for _ in call:
                    break


async def test_a_handler_that_fails_in_the_middle():
    async def half(call):
        await call.send(b"first")
        raise UnknownMethod("Out of ideas.")

    async with Linked(half=half) as link, link.near.stream("half", b"", timeout_ms=5000) as call:
        assert await anext(call) == b"first"
        with pytest.raises(UnknownMethod, match="ideas"):
            await anext(call)
        with pytest.raises(UnknownMethod):
            await call.result()
        with pytest.raises(UnknownMethod):
            await call.send(b"more")


async def test_sending_after_the_answer_is_refused():
    async def deaf(_):
        return b"ok"

    async with Linked(deaf=deaf) as link, link.near.stream("deaf", b"", timeout_ms=5000) as call:
        assert await call.result() == b"ok"
        with pytest.raises(CallCancelled):
            await call.send(b"more")


async def test_a_plain_call_takes_no_items():
    async def talk(call):
        await call.send(b"psst")
        return b""

    async with Linked(talk=talk) as link:
        with pytest.raises(InternalError):
            await link.near.call("talk", b"", timeout_ms=1000)


async def test_one_call_too_many_is_refused_with_a_time_to_wait():
    park, started, _ = parked()
    async with Linked(park=park) as link, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(link.near.call("park", b"", timeout_ms=60_000))
            for _ in range(CALLS_PER_PEER)
        ]
        await started
        with pytest.raises(PeerBusy) as caught:
            await link.near.call("park", b"", timeout_ms=1000)
        assert caught.value.data["retry_after_ms"] > 0
        for task in tasks:
            task.cancel()


async def test_the_node_wide_budget_is_shared():
    park, started, _ = parked()
    budget = CallBudget(1)
    async with Linked(park=park, budget=budget) as link:
        task = asyncio.create_task(link.near.call("park", b"", timeout_ms=60_000))
        await started
        with pytest.raises(PeerBusy, match="serves 1 calls"):
            await link.near.call("park", b"", timeout_ms=1000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_lost_connection_ends_every_call_with_one_error():
    park, started, cancelled = parked()
    async with Linked(park=park) as link:
        call = asyncio.create_task(link.near.call("park", b"", timeout_ms=60_000))
        await started
        async with link.near.stream("park", b"", timeout_ms=60_000) as streamed:
            await link.ends[0].close(255, "cut")
            with pytest.raises(ConnectionLost):
                await call
            with pytest.raises(ConnectionLost):
                await streamed.result()
        await cancelled
        with pytest.raises(ConnectionLost):
            await link.near.call("park", b"", timeout_ms=1000)
        assert (await link.near.wait_closed()).text == "cut"
        assert not link.near.is_open


async def test_closing_lets_calls_end_and_takes_no_new_ones():
    go_on = asyncio.get_running_loop().create_future()
    begun = asyncio.get_running_loop().create_future()

    async def slow(_):
        begun.set_result(None)
        await go_on
        return b"finished"

    async with Linked(slow=slow, echo=echo) as link:
        call = asyncio.create_task(link.near.call("slow", b"", timeout_ms=60_000))
        await begun
        closing = asyncio.create_task(link.far.close(CLOSE_NORMAL, "going home"))
        while link.near.is_open:
            await asyncio.sleep(0)
        with pytest.raises(ConnectionLost):
            await link.near.call("echo", b"", timeout_ms=1000)
        go_on.set_result(None)
        assert await call == b"finished"
        await closing
        assert (await link.near.wait_closed()).text.endswith("going home")


async def test_closing_twice_and_for_a_duplicate_does_not_wait():
    park, started, cancelled = parked()
    async with Linked(park=park) as link:
        call = asyncio.create_task(link.near.call("park", b"", timeout_ms=60_000))
        await started
        await asyncio.gather(
            link.far.close(CLOSE_DUPLICATE, "twice"), link.far.close(CLOSE_DUPLICATE, "twice")
        )
        await cancelled
        with pytest.raises(ConnectionLost):
            await call
        assert (await link.near.wait_closed()).code == CLOSE_DUPLICATE


async def test_another_network_is_refused_at_hello():
    near, far = connection_pair()
    clock = LoopClock()
    ours = RpcConnection(near, methods={}, hello=HELLO, clock=clock)
    theirs = RpcConnection(far, methods={}, hello=Hello(b"m" * 32, b"r" * 16), clock=clock)
    results = await asyncio.gather(ours.start(), theirs.start(), return_exceptions=True)
    assert any(isinstance(result, NetworkMismatch) for result in results)
    assert all(isinstance(result, SwarmError) for result in results)
    await asyncio.gather(ours.wait_closed(), theirs.wait_closed())


@pytest.mark.virtual
async def test_a_peer_that_says_nothing_is_given_up_at_hello():
    near, _ = connection_pair()
    ours = RpcConnection(near, methods={}, hello=HELLO, clock=LoopClock())
    with pytest.raises(SwarmError, match="HELLO"):
        await ours.start()


@pytest.mark.virtual
async def test_a_half_open_peer_is_noticed_while_a_call_waits():
    park, started, _ = parked()
    async with Linked(park=park) as link:
        call = asyncio.create_task(link.near.call("park", b"", timeout_ms=600_000))
        await started
        for stream in link.ends[1].streams:
            stream.outgoing.is_stuck = True
        loop = asyncio.get_running_loop()
        before = loop.time()
        with pytest.raises(ConnectionLost, match="silent"):
            await call
        assert loop.time() - before < 13


@pytest.mark.virtual
async def test_an_idle_connection_stays_up_for_hours_and_knows_its_round_trip():
    async with Linked(echo=echo) as link:
        await asyncio.sleep(3 * 3600)
        assert await link.near.call("echo", b"x", timeout_ms=1000) == b"x"
        assert link.near.rtt_us > 0


async def test_garbage_closes_the_connection_with_a_protocol_violation():
    async with Linked(echo=echo) as link:
        await link.ends[0].streams[0].write(b"\xff" * 100)
        reason = await link.far.wait_closed()
        assert reason.code == 2
        await link.near.wait_closed()


async def test_nothing_is_left_for_the_garbage_collector_to_complain_about(caplog):
    park, started, _ = parked()
    async with Linked(park=park) as link:
        calls = [
            asyncio.create_task(link.near.call("park", b"", timeout_ms=1000)) for _ in range(5)
        ]
        await started
        await link.ends[1].close(1, "gone")
        for task in calls:
            task.cancel()
        await asyncio.wait(calls)
    del calls, link, started
    gc.collect()
    assert not caplog.records


@pytest.mark.virtual
async def test_callers_wait_for_a_peer_that_reads_slowly_but_not_for_ever():
    async with Linked(echo=echo) as link:
        body = bytes(MAX_MESSAGE_BYTES)
        pipe = link.ends[0].streams[0].outgoing
        pipe.is_stuck = True
        first = [
            asyncio.create_task(link.near.call("echo", body, timeout_ms=3000)) for _ in range(2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded, match="could not be sent"):
            await link.near.call("echo", body, timeout_ms=500)
        waiting = asyncio.create_task(link.near.call("echo", b"patient", timeout_ms=3000))
        await asyncio.sleep(0.1)
        pipe.is_stuck = False
        pipe.wake()
        assert await waiting == b"patient"
        assert await asyncio.gather(*first) == [body, body]


@pytest.mark.virtual
async def test_only_so_many_callers_may_wait_for_a_slow_peer():
    async with Linked(echo=echo) as link:
        body = bytes(MAX_MESSAGE_BYTES)
        link.ends[0].streams[0].outgoing.is_stuck = True
        calls = [
            asyncio.create_task(link.near.call("echo", body, timeout_ms=1000))
            for _ in range(CALLS_PER_PEER + 10)
        ]
        await asyncio.sleep(0)
        with pytest.raises(PeerBusy, match="wait for"):
            await link.near.call("echo", body, timeout_ms=1000)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {DeadlineExceeded, PeerBusy}


@pytest.mark.virtual
async def test_a_handler_that_will_not_stop_is_reported_and_not_waited_for(caplog):
    release = asyncio.get_running_loop().create_future()
    begun = asyncio.get_running_loop().create_future()

    async def stubborn(_):
        begun.set_result(None)
        while not release.done():
            try:
                await asyncio.shield(release)
            except asyncio.CancelledError:
                continue
        return b""

    async with Linked(stubborn=stubborn) as link:
        call = asyncio.create_task(link.near.call("stubborn", b"", timeout_ms=60_000))
        await begun
        await link.far.close(CLOSE_DUPLICATE, "twice")
        assert "goes on" in caplog.text
        with pytest.raises(ConnectionLost):
            await call
        release.set_result(None)
        await asyncio.sleep(0.001)


async def test_background_calls_are_marked_as_such():
    async def is_background(call):
        return str(call.is_background).encode()

    async with Linked(ask=is_background) as link:
        assert await link.near.call("ask", b"", timeout_ms=1000, is_background=True) == b"True"
        assert await link.near.call("ask", b"", timeout_ms=1000) == b"False"
        assert link.near.is_dialer
        assert link.near.path().remote == "pair"


@pytest.mark.virtual
async def test_a_start_that_is_given_up_leaves_nothing():
    near, _ = connection_pair()
    ours = RpcConnection(near, methods={}, hello=HELLO, clock=LoopClock())
    starting = asyncio.create_task(ours.start())
    await asyncio.sleep(1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert (await ours.wait_closed()).text == "The start was given up."
