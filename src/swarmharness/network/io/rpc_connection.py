"""An RPC connection calls a peer's methods and serves its own over one transport connection.

Theory of operation. The mux core decides; this driver reads, writes, keeps one timer, and runs
one task for each call that the peer makes. A call of ours needs no task: its future waits in a
table. One reader feeds the mux, one `FrameWriter` drains it.

`_shut` ends everything, once: it tells every waiter synchronously, and one task then closes the
transport connection and waits for what was cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, assert_never, final

from swarmharness.kernel.clock import Clock
from swarmharness.kernel.errors import InternalError, SwarmError
from swarmharness.kernel.ids import NodeId, node_id_short
from swarmharness.network.errors import (
    CallCancelled,
    ConnectionLost,
    DeadlineExceeded,
    DialTimeout,
    PeerBusy,
    UnknownMethod,
)
from swarmharness.network.io.bulk import BulkShelf, fetch_bulk
from swarmharness.network.io.frame_writer import FrameWriter
from swarmharness.network.io.incoming_call import IncomingCall
from swarmharness.network.io.item_queue import ItemQueue
from swarmharness.network.io.outgoing_call import OutgoingCall
from swarmharness.network.io.waiting_room import WaitingRoom
from swarmharness.network.rpc.call_budget import CallBudget
from swarmharness.network.rpc.calls import CallIn, CallOut
from swarmharness.network.rpc.events import (
    Answered,
    Broken,
    Called,
    Event,
    Failed,
    GoingAway,
    Greeted,
    ItemArrived,
    ItemsEnded,
    WindowOpened,
    Withdrawn,
)
from swarmharness.network.rpc.limits import (
    BULK_STREAMS_PER_PEER,
    CALLS_PER_PEER,
    DRAIN_MS,
    HELLO_MS,
    KIB,
    MILLISECOND_US,
    RETRY_AFTER_MS,
    SECOND_US,
)
from swarmharness.network.rpc.messages import BulkTicket, Hello
from swarmharness.network.rpc.mux import Mux
from swarmharness.network.transport.seam import (
    CLOSE_GOING_AWAY,
    CLOSE_LOST,
    CLOSE_NORMAL,
    CLOSE_OVERLOADED,
    CloseReason,
    Connection,
    EagerStream,
    PathInfo,
    Stream,
)

Method = Callable[[IncomingCall], Awaitable[bytes]]

READ_BYTES: Final = 256 * KIB  # a few full frames; larger reads only cost memory
UNWIND_S: Final = 5.0  # a cancelled handler that still runs then is reported, not waited for
_NEVER_US: Final = 2**63

logger = logging.getLogger(__name__)


@final
class RpcConnection:
    """`start` it once; then `call`, `stream` and bulk work until `close` or a loss."""

    def __init__(
        self,
        connection: Connection,
        *,
        methods: Mapping[str, Method],
        hello: Hello,
        clock: Clock,
        budget: CallBudget | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.remote_id: NodeId = connection.remote_id
        self.now_us = clock.now_us
        self._connection = connection
        self._methods = methods
        self._mux = Mux(
            is_dialer=connection.is_dialer,
            hello=hello,
            budget=budget if budget is not None else CallBudget(),
            now_us=clock.now_us(),
        )
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._streams: dict[int, OutgoingCall] = {}
        self._handlers: dict[int, tuple[IncomingCall, asyncio.Task[None]]] = {}
        self._blocked = WaitingRoom()
        self._pumps: list[asyncio.Task[None]] = []
        self._bulk_tasks: set[asyncio.Task[None]] = set()
        self._shelf = BulkShelf(self._loop, random_bytes)
        self._writer: FrameWriter | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us = _NEVER_US
        self._greeted: asyncio.Future[Hello] = self._loop.create_future()
        self._drained: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._end: SwarmError | None = None
        self._closer: asyncio.Task[CloseReason] | None = None

    # Life.

    @property
    def peer_hello(self) -> Hello:
        """Known once started."""
        hello = self._mux.peer_hello
        assert hello is not None, "the connection was not started"
        return hello

    @property
    def is_dialer(self) -> bool:
        return self._connection.is_dialer

    @property
    def is_open(self) -> bool:
        """Whether a new call would be tried: neither side is closing."""
        mux = self._mux
        return self._end is None and not mux.goes_away and mux.peer_goes_away is None

    @property
    def rtt_us(self) -> int:
        """The smoothed round trip; 0 until measured."""
        return self._mux.heartbeat.rtt.srtt_us

    @property
    def calls_waiting(self) -> int:
        """Our calls under way."""
        return self._mux.calls_waiting

    @property
    def calls_serving(self) -> int:
        """The peer's calls under way."""
        return self._mux.calls_serving

    def path(self) -> PathInfo:
        """How the bytes travel now."""
        return self._connection.path()

    async def start(self) -> None:
        """Opens or accepts the framed stream and exchanges HELLO; on failure all is closed."""
        try:
            async with asyncio.timeout(HELLO_MS / 1000):
                if self._connection.is_dialer:
                    stream = await self._connection.open_stream(0)
                else:
                    stream = await self._connection.accept_stream()
                self._writer = FrameWriter(
                    self._mux, stream, self.now_us, moved=self._moved, idled=self._check_drained
                )
                self._pumps.append(self._loop.create_task(self._read(stream)))
                self._pumps.append(self._loop.create_task(self._write(self._writer)))
                await asyncio.shield(self._greeted)
        except BaseException as error:
            if isinstance(error, TimeoutError):
                error = DialTimeout(f"{self._name()} sent no HELLO in {HELLO_MS} ms.")
            reason = error if isinstance(error, SwarmError) else None
            self._shut(CLOSE_GOING_AWAY, reason or ConnectionLost("The start was given up."))
            await asyncio.shield(self.wait_closed())
            raise error from None
        self._pumps.append(self._loop.create_task(self._accept_bulk()))

    async def close(self, code: int, reason: str, *, drain_ms: int = DRAIN_MS) -> None:
        """No new calls; those under way get `drain_ms`, except when the peer broke the rules."""
        if self._end is None:
            self._mux.go_away(code, reason, self.now_us())
            self._kick()
            if code in (CLOSE_NORMAL, CLOSE_GOING_AWAY) and self._mux.peer_hello is not None:
                if self._drained is None:
                    self._drained = self._loop.create_future()
                self._check_drained()
                await asyncio.wait([self._drained], timeout=drain_ms / 1000)
            self._shut(code, ConnectionLost(f"This side closed the connection: {reason}"))
        await self.wait_closed()

    async def wait_closed(self) -> CloseReason:
        """Once nothing of this connection runs any more."""
        await asyncio.shield(self._ended)
        assert self._closer is not None, "the end and its closer are set together"
        return await asyncio.shield(self._closer)

    # The caller's side.

    async def call(
        self,
        method: str,
        body: bytes,
        *,
        timeout_ms: int,
        idempotency_key: bytes | None = None,
        trace: bytes = b"",
        is_background: bool = False,
    ) -> bytes:
        """The answer, or one `SwarmError`. Cancelling the caller cancels the call over there."""
        if self._end is not None or self._mux.queue.is_full:
            timeout_ms = await self._wait_for_room(method, timeout_ms)
        state = self._mux.start_call(
            method,
            body,
            self.now_us(),
            timeout_ms=timeout_ms,
            idempotency_key=idempotency_key,
            trace=trace,
            is_background=is_background,
        )
        waiter: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[state.id] = waiter
        self._kick(at_once=True)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # the answer came in the same moment; nobody wants it now
            self._waiting.pop(state.id, None)
            self._mux.cancel_call(state, "the caller left", self.now_us())
            self._kick()
            raise

    def stream(
        self,
        method: str,
        body: bytes,
        *,
        timeout_ms: int,
        idempotency_key: bytes | None = None,
        trace: bytes = b"",
        is_background: bool = False,
    ) -> OutgoingCall:
        """A streamed call, started by `async with`."""
        return OutgoingCall(
            self,
            method,
            body,
            timeout_ms=timeout_ms,
            idempotency_key=idempotency_key,
            trace=trace,
            is_background=is_background,
        )

    # Bulk.

    async def offer_bulk(self, data: bytes | memoryview, *, ttl_ms: int) -> BulkTicket:
        """A ticket with which this peer, on this connection, may fetch the data once."""
        self._raise_if_ended()
        return await self._shelf.offer(data, ttl_ms=ttl_ms)

    async def fetch_bulk(self, ticket: BulkTicket, *, limit_bytes: int, timeout_ms: int) -> bytes:
        """The ticket's content, checked; a stream lost on the way is resumed where it broke."""
        self._raise_if_ended()
        return await fetch_bulk(
            self._connection, ticket, limit_bytes=limit_bytes, timeout_ms=timeout_ms
        )

    # What streamed calls use.

    async def start_stream(self, owner: OutgoingCall) -> CallOut:
        """Sends the request and directs the call's events to `owner`."""
        timeout_ms = owner.timeout_ms
        if self._end is not None or self._mux.queue.is_full:
            timeout_ms = await self._wait_for_room(owner.method, timeout_ms)
        state = self._mux.start_call(
            owner.method,
            owner.body,
            self.now_us(),
            timeout_ms=timeout_ms,
            idempotency_key=owner.idempotency_key,
            trace=owner.trace,
            is_streamed=True,
            is_background=owner.is_background,
        )
        self._streams[state.id] = owner
        self._kick(at_once=True)
        return state

    def cancel_stream(self, state: CallOut) -> None:
        """A call that has already ended is left alone."""
        if self._streams.pop(state.id, None) is not None:
            self._mux.cancel_call(state, "the caller left", self.now_us())
            self._blocked.let_out(state)
            self._kick()

    async def send_item(self, state: CallOut | CallIn, item: bytes) -> None:
        """Once the windows are open and the queue has room."""
        mux = self._mux
        if state.windows is None:
            raise InternalError(f"The caller of {state.method} takes no items.")
        while state.is_active and not mux.can_send_item(state):
            await self._blocked.wait(None if state.windows.send.is_open else state)
        if not state.is_active:
            self._raise_if_ended()
            raise CallCancelled(f"The call of {state.method} has ended.")
        mux.send_item(state, item, self.now_us())
        self._kick()

    def finish_items(self, state: CallOut) -> None:
        self._mux.finish_items(state, self.now_us())
        self._kick()

    def consumed(self, state: CallOut | CallIn, size_bytes: int) -> None:
        """An item of this size was read."""
        self._mux.consumed(state, size_bytes, self.now_us())
        self._kick()

    # Waiting for room.

    async def _wait_for_room(self, method: str, timeout_ms: int) -> int:
        """The time that is left once the queue has room again."""
        self._raise_if_ended()
        if len(self._blocked) >= CALLS_PER_PEER:
            raise PeerBusy(
                f"{len(self._blocked)} calls wait for {self._name()} already.",
                data={"retry_after_ms": RETRY_AFTER_MS},
            )
        deadline_us = self.now_us() + timeout_ms * MILLISECOND_US
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while self._mux.queue.is_full:
                    await self._blocked.wait(None)
                    self._raise_if_ended()
        except TimeoutError:
            raise DeadlineExceeded(f"{method} could not be sent in {timeout_ms} ms.") from None
        return max(1, (deadline_us - self.now_us()) // MILLISECOND_US)

    # Pumps.

    async def _read(self, stream: Stream) -> None:
        try:
            if isinstance(stream, EagerStream):
                stream.divert(self._take_in)
            while data := await stream.read(READ_BYTES):
                self._take_in(data)
        except SwarmError as error:
            self._shut(CLOSE_LOST, error)
        else:
            self._shut(CLOSE_NORMAL, ConnectionLost(f"{self._name()} ended the connection."))

    def _take_in(self, data: bytes) -> None:
        try:
            for event in self._mux.receive(data, self.now_us()):
                self._act(event)
            self._kick()
        except Exception:
            logger.exception("the connection to %s failed", self._name())
            self._shut(CLOSE_LOST, InternalError("This node failed to handle what arrived."))

    async def _write(self, writer: FrameWriter) -> None:
        try:
            await writer.run()
        except SwarmError as error:
            self._shut(CLOSE_LOST, error)

    def _moved(self) -> None:
        if self._blocked and not self._mux.queue.is_full:
            self._blocked.let_out(None)

    def _kick(self, *, at_once: bool = False) -> None:
        """After anything that may have queued frames or moved the next wake-up."""
        if self._writer is not None:
            self._writer.kick(at_once=at_once)
        if self._mux.wake_us < self._timer_us:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._end is None:
            self._timer_us = self._mux.wake_us
            delay_us = max(0, self._timer_us - self.now_us()) + 1
            self._timer = self._loop.call_later(delay_us / SECOND_US, self._on_timer)

    def _on_timer(self) -> None:
        self._timer_us = _NEVER_US
        for event in self._mux.wake(self.now_us()):
            self._act(event)
        self._kick()

    # Events.

    def _act(self, event: Event) -> None:
        if isinstance(event, Answered):
            waiter = self._waiting.pop(event.call.id, None)
            if waiter is None:
                self._streams.pop(event.call.id).answered(event.body)
                self._blocked.let_out(event.call)
            elif not waiter.done():
                waiter.set_result(event.body)
        elif isinstance(event, Called):
            self._begin(event.call)
        elif isinstance(event, ItemArrived):
            self._deliver(event)
        elif isinstance(event, Failed):
            self._fail(event.call, event.error)
        elif isinstance(event, WindowOpened):
            self._blocked.let_out(event.call)
        else:
            self._act_rarely(event)

    def _act_rarely(self, event: ItemsEnded | Withdrawn | Greeted | GoingAway | Broken) -> None:
        if isinstance(event, ItemsEnded):
            items = self._items_of(event.call)
            if items is not None:
                items.end()
        elif isinstance(event, Withdrawn):
            self._blocked.let_out(event.call)
            self._stop(event.call.id)
        elif isinstance(event, Greeted):
            if not self._greeted.done():
                self._greeted.set_result(event.hello)
        elif isinstance(event, GoingAway):
            logger.debug("%s goes away: %s", self._name(), event.message.reason)
        elif isinstance(event, Broken):
            self._shut(event.code, event.error)
        else:
            assert_never(event)

    def _deliver(self, event: ItemArrived) -> None:
        call = event.call
        if isinstance(call, CallOut):
            self._streams[call.id].arrived(event.item)
            return
        items = self._items_of(call)
        if items is not None:
            items.put(event.item)
        else:
            self._mux.consumed(call, len(event.item), self.now_us())

    def _items_of(self, call: CallIn) -> ItemQueue | None:
        """None for a call that was refused earlier in the same batch of events."""
        handler = self._handlers.get(call.id)
        return handler[0].items if handler is not None else None

    def _fail(self, call: CallOut, error: SwarmError) -> None:
        waiter = self._waiting.pop(call.id, None)
        if waiter is None:
            self._streams.pop(call.id).failed(error)
            self._blocked.let_out(call)
        elif not waiter.done():
            waiter.set_exception(error)

    # The callee's side.

    def _begin(self, state: CallIn) -> None:
        method = self._methods.get(state.method)
        if method is None:
            error = UnknownMethod(f"This node does not offer the method “{state.method}”.")
            self._mux.fail(state, error, self.now_us())
            return
        incoming = IncomingCall(self, state)
        task = self._loop.create_task(self._serve(method, incoming))
        self._handlers[state.id] = (incoming, task)

    def _stop(self, call_id: int) -> None:
        """A task that is cancelled before its first step never runs its `finally`."""
        handler = self._handlers.get(call_id)
        if handler is not None:
            incoming, task = handler
            task.cancel()
            if not incoming.has_started:
                self._cleared(incoming)

    async def _serve(self, method: Method, incoming: IncomingCall) -> None:
        incoming.has_started = True
        state = incoming.state
        mux = self._mux
        try:
            body = await method(incoming)
            while mux.queue.is_full and state.is_active:
                await self._blocked.wait(None)
            mux.answer(state, body, self.now_us())
        except SwarmError as error:
            mux.fail(state, error, self.now_us())
        except asyncio.CancelledError:
            stopped = InternalError(f"{state.method} was stopped by the node that ran it.")
            mux.fail(state, stopped, self.now_us())  # not sent if it was the caller who left
            raise
        except Exception:
            logger.exception("method %s failed", state.method)
            failed = InternalError(f"{state.method} failed inside the node that ran it.")
            mux.fail(state, failed, self.now_us())
        finally:
            self._cleared(incoming)

    def _cleared(self, incoming: IncomingCall) -> None:
        state = incoming.state
        del self._handlers[state.id]
        self._mux.release(state)
        if incoming.items is not None:
            for size in incoming.items.drop_unread():
                self._mux.consumed(state, size, self.now_us())
        if self._end is None:
            self._kick(at_once=True)
            self._check_drained()

    async def _accept_bulk(self) -> None:
        try:
            while True:
                stream = await self._connection.accept_stream()
                if len(self._bulk_tasks) >= BULK_STREAMS_PER_PEER:
                    await stream.reset(CLOSE_OVERLOADED)
                    await stream.stop(CLOSE_OVERLOADED)
                    continue
                task = self._loop.create_task(self._shelf.serve(stream))
                self._bulk_tasks.add(task)
                task.add_done_callback(self._bulk_ended)
        except SwarmError as error:
            self._shut(CLOSE_LOST, error)

    def _bulk_ended(self, task: asyncio.Task[None]) -> None:
        self._bulk_tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("serving bulk failed", exc_info=task.exception())
        self._check_drained()

    # The end.

    def _check_drained(self) -> None:
        if self._drained is None or self._drained.done():
            return
        mux = self._mux
        is_idle = self._writer is not None and self._writer.is_idle
        if is_idle and not (mux.calls_waiting or mux.calls_serving or self._bulk_tasks):
            self._drained.set_result(None)

    def _raise_if_ended(self) -> None:
        if self._end is not None:
            raise ConnectionLost(self._end.sentence)

    def _shut(self, code: int, error: SwarmError) -> None:
        if self._end is not None:
            return
        self._end = error
        if self._timer is not None:
            self._timer.cancel()
        self._shelf.close()
        if not self._greeted.done():
            self._greeted.set_exception(error)
            self._greeted.exception()  # `start` may have been cancelled and not look
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(ConnectionLost(error.sentence))
        self._waiting.clear()
        for stream in self._streams.values():
            stream.failed(ConnectionLost(error.sentence))
        self._streams.clear()
        self._mux.drop_calls()
        self._blocked.let_all_out()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._closer = self._loop.create_task(self._finish(code, error.sentence))
        self._ended.set_result(None)

    async def _finish(self, code: int, text: str) -> CloseReason:
        handlers = [task for _, task in self._handlers.values()]
        for call_id in list(self._handlers):
            self._stop(call_id)
        await self._connection.close(code, text)
        tasks = [*self._pumps, *self._bulk_tasks, *handlers]
        for task in tasks:
            task.cancel()
        if tasks:
            ended, running = await asyncio.wait(tasks, timeout=UNWIND_S)
            for task in running:
                logger.error("a handler goes on after its connection has ended: %r", task)
            for task in ended:
                if not task.cancelled() and task.exception() is not None:
                    logger.error("%r failed", task, exc_info=task.exception())
        return await self._connection.wait_closed()

    def _name(self) -> str:
        return node_id_short(self.remote_id)
