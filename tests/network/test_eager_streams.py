"""Bytes without a turn of the event loop: written at once, handed over as they arrive."""

import asyncio

import pytest

from network.tls_pair import connected
from swarmharness.kernel.ids import DEVELOPMENT_NETWORK
from swarmharness.network.errors import ConnectionLost
from swarmharness.network.io.frame_writer import FrameWriter
from swarmharness.network.io.rpc_connection import RpcConnection
from swarmharness.network.receive_window import WINDOW_BYTES_MAX
from swarmharness.network.records import DATA_BYTES_MAX
from swarmharness.network.rpc.call_budget import CallBudget
from swarmharness.network.rpc.messages import Hello
from swarmharness.network.rpc.mux import Mux
from swarmharness.network.transport.seam import EagerStream
from swarmharness.node.system_clock import SystemClock

HELLO = Hello(DEVELOPMENT_NETWORK, b"r" * 16)


class Sink:
    """Collects until it has as much as somebody waits for."""

    def __init__(self):
        self.data = bytearray()
        self._wanted = 0
        self._enough = None

    def __call__(self, data):
        self.data += data
        if self._enough is not None and len(self.data) >= self._wanted:
            self._enough.set_result(None)
            self._enough = None

    async def holds(self, size):
        if len(self.data) < size:
            self._wanted, self._enough = size, asyncio.get_running_loop().create_future()
            await self._enough


async def stream_pair(dialed, accepted):
    near = await dialed.open_stream()
    await near.write(b"first")
    far = await accepted.accept_stream()
    assert await far.read(5) == b"first"
    return near, far


async def test_what_fits_is_written_at_once():
    async with connected() as (dialed, accepted):
        near, far = await stream_pair(dialed, accepted)
        assert isinstance(near, EagerStream)
        assert near.try_write(b"now")
        assert await far.read(10) == b"now"


async def test_what_does_not_fit_is_left_untouched():
    async with connected() as (dialed, accepted):
        near, far = await stream_pair(dialed, accepted)
        assert not near.try_write(bytes(DATA_BYTES_MAX + 1))
        assert not near.try_write(b"")
        sent = 0
        while near.try_write(bytes(DATA_BYTES_MAX)):
            sent += DATA_BYTES_MAX
        assert sent <= WINDOW_BYTES_MAX
        await near.finish()
        assert not near.try_write(b"late")
        received = 0
        while data := await far.read(2**20):
            received += len(data)
        assert received == sent


async def test_a_diverted_stream_hands_over_what_came_before_and_after():
    async with connected() as (dialed, accepted):
        near, far = await stream_pair(dialed, accepted)
        await near.write(b"before ")
        await near.write(b"and ")
        assert await far.read(1) == b"b"
        sink = Sink()
        far.divert(sink)
        end = asyncio.ensure_future(far.read(100))
        await near.write(b"after")
        await near.finish()
        assert await end == b""
        assert bytes(sink.data) == b"efore and after"


async def test_a_diverted_stream_grants_credit():
    content = bytes(range(256)) * (3 * WINDOW_BYTES_MAX // 256)
    async with connected() as (dialed, accepted):
        near, far = await stream_pair(dialed, accepted)
        sink = Sink()
        far.divert(sink)
        await near.write(content)
        await sink.holds(len(content))
        assert bytes(sink.data) == content


class Recorder:
    """A stream that takes eagerly, or refuses to."""

    def __init__(self, *, takes):
        self.takes = takes
        self.at_once = []
        self.by_task = []

    def try_write(self, data):
        if self.takes:
            self.at_once.append(data)
        return self.takes

    def divert(self, sink):
        raise AssertionError("a writer reads nothing")

    async def write(self, data):
        self.by_task.append(data)


async def idle_writer(stream):
    """A writer that has sent its HELLO and waits."""
    mux = Mux(is_dialer=True, hello=HELLO, budget=CallBudget(), now_us=0)
    idle = asyncio.Event()
    writer = FrameWriter(mux, stream, lambda: 0, moved=lambda: None, idled=idle.set)
    task = asyncio.ensure_future(writer.run())
    await idle.wait()
    far = Mux(is_dialer=False, hello=HELLO, budget=CallBudget(), now_us=0)
    mux.receive(far.take(0), 0)
    stream.by_task.clear()
    return mux, writer, task


async def stopped(task):
    task.cancel()
    await asyncio.wait([task])


async def test_a_lone_frame_leaves_at_once():
    stream = Recorder(takes=True)
    mux, writer, task = await idle_writer(stream)
    mux.start_call("m", b"body", 0, timeout_ms=1000)
    writer.kick(at_once=True)
    assert len(stream.at_once) == 1
    assert writer.is_idle
    await stopped(task)
    assert not stream.by_task


async def test_calls_in_flight_leave_together():
    stream = Recorder(takes=True)
    mux, writer, task = await idle_writer(stream)
    for _ in range(3):
        mux.start_call("m", b"body", 0, timeout_ms=1000)
    writer.kick(at_once=True)
    await asyncio.sleep(0)
    assert not stream.at_once
    assert len(stream.by_task) == 1
    await stopped(task)


async def test_background_calls_do_not_make_a_frame_wait():
    stream = Recorder(takes=True)
    mux, writer, task = await idle_writer(stream)
    mux.start_call("watch", b"", 0, timeout_ms=1000, is_background=True)
    writer.kick()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(stream.by_task) == 1
    mux.start_call("m", b"body", 0, timeout_ms=1000)
    writer.kick(at_once=True)
    assert len(stream.at_once) == 1
    await stopped(task)


async def test_what_the_stream_refuses_at_once_goes_first_by_the_task():
    stream = Recorder(takes=False)
    mux, writer, task = await idle_writer(stream)
    mux.start_call("m", b"one", 0, timeout_ms=1000)
    writer.kick(at_once=True)
    assert not writer.is_idle
    mux.start_call("m", b"two", 0, timeout_ms=1000)
    writer.kick(at_once=True)
    while len(stream.by_task) < 2:
        await asyncio.sleep(0)
    assert b"one" in stream.by_task[0]
    assert b"two" in stream.by_task[1]
    await stopped(task)


async def test_a_fault_of_ours_while_taking_in_ends_the_connection(caplog):
    async with connected() as (dialed, accepted):
        near = RpcConnection(dialed, methods={}, hello=HELLO, clock=SystemClock())
        far = RpcConnection(accepted, methods={}, hello=HELLO, clock=SystemClock())
        await asyncio.gather(near.start(), far.start())

        def broken(_data, _now_us):
            raise ZeroDivisionError

        far._mux.receive = broken
        with pytest.raises(ConnectionLost):
            await near.call("m", b"", timeout_ms=60_000)
        await far.wait_closed()
        assert not far.is_open
        await near.wait_closed()
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]
