"""The mux carries many calls at once over one framed stream: bytes in give events, commands
give bytes out.

Theory of operation. The mux knows no socket, no task and no clock: the driver hands in received
bytes and the time (`receive`, `wake`), acts on the events it gets, and writes what `take` gives.
Whatever arrives either means something or is a `Broken` event, after which nothing is believed.

    ours                                         the peer's
    start ─► active ─► Answered | Failed         Called ─► active ─► answer | fail ─► released
               └─ cancel, deadline ─► gone                   └─ Withdrawn ─► gone ─► released

*A call leaves the table at once* when it is answered, cancelled or expired; frames about it that
are still under way are recognised by their id (it was issued once) and dropped. The peer's
request ids rise within each class, so a reused id is noticed without remembering old ones.

*Only items have windows.* Requests and answers are bounded by the calls in flight and by
`HELD_REQUEST_BYTES`, so an unread stream never blocks an ordinary call.

*Deadlines* are searched when the earliest one passes, not kept in a heap: the tables are small,
and a finished call then costs nothing. The caller tells the peer its time less one round trip,
so that the answer "too late" still arrives in time.
"""

from __future__ import annotations

from typing import final

from swarmharness.kernel.codec import decode, encode
from swarmharness.kernel.errors import ErrorRecord, MalformedMessage, SwarmError, from_record
from swarmharness.network.errors import (
    ConnectionLost,
    DeadlineExceeded,
    LimitExceeded,
    MessageTooLarge,
    NetworkMismatch,
    ProtocolViolation,
    VersionMismatch,
)
from swarmharness.network.rpc import frames
from swarmharness.network.rpc.assembly import Assembly
from swarmharness.network.rpc.call_budget import CallBudget
from swarmharness.network.rpc.calls import CallIn, CallOut, open_windows
from swarmharness.network.rpc.calls_in import CallsIn
from swarmharness.network.rpc.calls_out import CallsOut, busy
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
from swarmharness.network.rpc.frames import FrameReader, encode_frame, encode_message
from swarmharness.network.rpc.heartbeat import Heartbeat
from swarmharness.network.rpc.limits import (
    CONNECTION_WINDOW_BYTES,
    MAX_FRAME_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_METHOD_CHARS,
    MAX_REASON_CHARS,
    MAX_TIMEOUT_MS,
    MILLISECOND_US,
    MIN_FRAME_BYTES,
    PING_BUSY_US,
    PING_BYTES,
    STUCK_HARD_US,
    STUCK_SOFT_US,
)
from swarmharness.network.rpc.messages import Cancel, GoAway, Hello, Request, Window
from swarmharness.network.rpc.send_queue import BACKGROUND_CLASS, CONTROL, INTERACTIVE, SendQueue
from swarmharness.network.rpc.windows import ReceiveWindow, SendWindow, item_cost
from swarmharness.network.transport.seam import (
    CLOSE_IDLE,
    CLOSE_OVERLOADED,
    CLOSE_PROTOCOL_VIOLATION,
)

_CLASS_FLAGS = (0, 0, frames.BACKGROUND)  # by send class
_CALL_FRAMES = frozenset((frames.CANCEL, frames.WINDOW, frames.ERROR))
_PEER_FAULTS = (MalformedMessage, ProtocolViolation, NetworkMismatch, VersionMismatch)


@final
class Mux:
    """One side of one connection."""

    def __init__(self, *, is_dialer: bool, hello: Hello, budget: CallBudget, now_us: int) -> None:
        self.hello = hello
        self.peer_hello: Hello | None = None
        self.peer_goes_away: GoAway | None = None
        self.goes_away = False
        self.is_broken = False
        self.queue = SendQueue(now_us)
        self.heartbeat = Heartbeat(now_us)
        self.wake_us = now_us + PING_BUSY_US
        self._calls_out = CallsOut(is_dialer=is_dialer)
        self._calls_in = CallsIn(budget, is_dialer=is_dialer)
        self._reader = FrameReader()
        self._assembly = Assembly()
        self._max_payload = frames.MAX_PAYLOAD_BYTES
        self._send_window = SendWindow(CONNECTION_WINDOW_BYTES)
        self._receive_window = ReceiveWindow(CONNECTION_WINDOW_BYTES)
        self.queue.put(CONTROL, encode_frame(frames.HELLO, 0, 0, encode(hello)), now_us)

    # What is going on.

    @property
    def calls_waiting(self) -> int:
        """Our calls without an answer yet."""
        return len(self._calls_out.by_id)

    @property
    def calls_serving(self) -> int:
        """The peer's calls whose handlers have not ended."""
        return self._calls_in.serving

    @property
    def is_quiet(self) -> bool:
        """Whether at most one call is under way, background ones aside."""
        return self._calls_out.interactive + self._calls_in.interactive <= 1

    def can_send_item(self, call: CallOut | CallIn) -> bool:
        """Whether the call's and the connection's windows are open and the queue has room."""
        windows = call.windows
        return (
            windows is not None
            and windows.send.is_open
            and self._send_window.is_open
            and not self.queue.is_full
        )

    # Commands of the caller.

    def start_call(
        self,
        method: str,
        body: bytes,
        now_us: int,
        *,
        timeout_ms: int,
        idempotency_key: bytes | None = None,
        trace: bytes = b"",
        is_streamed: bool = False,
        is_background: bool = False,
    ) -> CallOut:
        """The call is under way, or one of our own limits refuses it."""
        self._check_may_call(method, body, now_us)
        self._calls_out.check_room(is_background=is_background)
        assert 0 < timeout_ms <= MAX_TIMEOUT_MS, "a call needs a timeout of at most a day"
        remaining_ms = max(1, timeout_ms - self.heartbeat.rtt.srtt_us // MILLISECOND_US)
        payload = encode(Request(method, remaining_ms, idempotency_key, trace, body))
        send_class = BACKGROUND_CLASS if is_background else INTERACTIVE
        call = CallOut(
            self._calls_out.new_id(),
            method,
            send_class,
            _CLASS_FLAGS[send_class],
            now_us + timeout_ms * MILLISECOND_US,
            open_windows() if is_streamed else None,
            has_finished_items=not is_streamed,
        )
        self._calls_out.add(call)
        flags = call.flags | (frames.STREAMED if is_streamed else frames.END)
        if len(payload) <= self._max_payload:
            frame = encode_frame(frames.REQUEST, flags, call.id, payload)
            self.queue.put(send_class, frame, now_us, 0 if is_streamed else call.id)
        else:
            self._put_message(call, frames.REQUEST, flags, payload, now_us)
        self._wake_by(min(call.deadline_us, now_us + PING_BUSY_US))
        return call

    def cancel_call(self, call: CallOut, reason: str, now_us: int) -> None:
        """Nobody waits any more. A call that has already ended is left alone."""
        if not self._calls_out.drop(call):
            return
        if call.windows is None and self.queue.withdraw(call.send_class, call.id):
            return
        payload = encode(Cancel(reason[:MAX_REASON_CHARS]))
        frame = encode_frame(frames.CANCEL, call.flags, call.id, payload)
        self.queue.put(call.send_class, frame, now_us)

    def finish_items(self, call: CallOut, now_us: int) -> None:
        """The caller has no more items."""
        if call.is_active and not call.has_finished_items:
            call.has_finished_items = True
            frame = encode_frame(frames.DATA, call.flags | frames.END, call.id, b"")
            self.queue.put(call.send_class, frame, now_us)

    # Commands of both sides of a streamed call.

    def send_item(self, call: CallOut | CallIn, item: bytes, now_us: int) -> None:
        """Only after `can_send_item`; an item of a call that has ended is not sent."""
        _check_size("An item", call.method, item)
        if not call.is_active:
            return
        assert call.windows is not None, "only a streamed call carries items"
        cost = item_cost(len(item))
        call.windows.send.spend(cost)
        self._send_window.spend(cost)
        self._put_message(call, frames.DATA, call.flags, item, now_us)

    def consumed(self, call: CallOut | CallIn, size_bytes: int, now_us: int) -> None:
        """Somebody has read an item of this size, or will never read it."""
        cost = item_cost(size_bytes)
        if call.is_active and call.windows is not None:
            self._grant(call.id, call.windows.receive.consumed(cost), now_us)
        self._grant(0, self._receive_window.consumed(cost), now_us)

    # Commands of the callee.

    def answer(self, call: CallIn, body: bytes, now_us: int) -> None:
        """The handler has returned; an answer that nobody waits for is not sent."""
        _check_size("The answer", call.method, body)
        if self._calls_in.drop(call):
            self._put_message(call, frames.RESPONSE, call.flags | frames.END, body, now_us)
        self._calls_in.release(call)

    def fail(self, call: CallIn, error: SwarmError, now_us: int) -> None:
        """The handler has raised."""
        if self._calls_in.drop(call):
            self._refuse(call.id, call.send_class, error, now_us)
        self._calls_in.release(call)

    def release(self, call: CallIn) -> None:
        """The handler has ended, so the call no longer counts."""
        self._calls_in.release(call)

    # Commands for the connection.

    def go_away(self, code: int, reason: str, now_us: int) -> None:
        """Take no new calls; those under way go on."""
        if self.goes_away:
            return
        self.goes_away = True
        message = GoAway(code, self._calls_in.last_id, reason[:MAX_REASON_CHARS])
        self.queue.put(CONTROL, encode_frame(frames.GOAWAY, 0, 0, encode(message)), now_us)

    def drop_calls(self) -> None:
        """The connection has ended: nothing is active any more; handlers are still released."""
        self.is_broken = True
        for call in list(self._calls_out.by_id.values()):
            self._calls_out.drop(call)
        for served in list(self._calls_in.by_id.values()):
            self._calls_in.drop(served)

    def take(self, now_us: int) -> bytes:
        """The next write; empty when nothing waits."""
        return self.queue.take(now_us)

    # Time.

    def wake(self, now_us: int) -> list[Event]:
        """To be called at `wake_us`, or later: deadlines, pings, stuck queues."""
        events: list[Event] = []
        due_us = self.wake_us
        if self.is_broken or now_us < due_us:
            return events
        death = self.heartbeat.verdict(now_us, due_us)
        if death:
            self._break(CLOSE_IDLE, ConnectionLost(death), events)
            return events
        stuck_us = self.queue.stuck_us(now_us)
        if stuck_us > STUCK_HARD_US or self.queue.is_overrun:
            self._break(CLOSE_OVERLOADED, self._overload(), events)
            return events
        if stuck_us > STUCK_SOFT_US:
            self._shed_background(events)
        self._expire(now_us, events)
        waits = self.calls_waiting > 0
        payload = None
        if self.peer_hello is not None:
            payload = self.heartbeat.ping(now_us, is_busy=waits)
        if payload is not None:
            self.queue.put(CONTROL, encode_frame(frames.PING, 0, 0, payload), now_us)
        is_busy = waits or self.calls_serving > 0 or self.queue.waiting_bytes > 0
        self.wake_us = max(now_us + 1, self.heartbeat.next_us(now_us, is_busy=is_busy))
        for call in self._calls_out.by_id.values():
            self._wake_by(call.deadline_us)
        for served in self._calls_in.by_id.values():
            self._wake_by(served.deadline_us)
        return events

    # Bytes.

    def receive(self, data: bytes, now_us: int) -> list[Event]:
        """What the bytes mean; the same events however they were cut."""
        events: list[Event] = []
        if self.is_broken:
            return events
        self.heartbeat.heard(now_us)
        try:
            for frame in self._reader.feed(data):
                if self.peer_hello is None:
                    self._handle_hello(frame, now_us, events)
                elif frames.REQUEST <= frame[0] <= frames.DATA:
                    self._handle_message(frame, now_us, events)
                elif frame[0] in _CALL_FRAMES:
                    self._handle_call_frame(frame, events)
                else:
                    self._handle_connection_frame(frame, now_us, events)
        except _PEER_FAULTS as error:
            self._break(CLOSE_PROTOCOL_VIOLATION, error, events)
            return events
        if self._reader.broken is not None:
            self._break(CLOSE_PROTOCOL_VIOLATION, self._reader.broken, events)
        elif self.queue.is_overrun:
            self._break(CLOSE_OVERLOADED, self._overload(), events)
        return events

    def _handle_hello(self, frame: frames.Frame, now_us: int, events: list[Event]) -> None:
        kind, _, call_id, payload = frame
        if kind != frames.HELLO or call_id:
            raise ProtocolViolation(f"The first frame was of type {kind}, not HELLO.")
        hello = decode(Hello, payload)
        if hello.network_id != self.hello.network_id:
            raise NetworkMismatch(
                f"The peer is in network {hello.network_id.hex()[:16]}, "
                f"this node in {self.hello.network_id.hex()[:16]}."
            )
        if not set(hello.versions) & set(self.hello.versions):
            raise VersionMismatch(
                f"The peer speaks protocol {hello.versions}, this node {self.hello.versions}."
            )
        if hello.max_frame < MIN_FRAME_BYTES:
            raise ProtocolViolation(f"Frames of {hello.max_frame} bytes are too small.")
        self._max_payload = min(MAX_FRAME_BYTES, hello.max_frame) - frames.HEADER_BYTES
        self.peer_hello = hello
        self.wake_us = now_us  # the first PING measures the round trip at once
        events.append(Greeted(hello))

    def _handle_message(self, frame: frames.Frame, now_us: int, events: list[Event]) -> None:
        payload = self._assembly.add(frame)
        if payload is None:
            return
        kind, flags, call_id, _ = frame
        if kind == frames.RESPONSE:
            call = self._calls_out.by_id.get(call_id)
            if call is None:
                self._calls_out.check_issued(call_id)
                return
            self._calls_out.drop(call)
            events.append(Answered(call, payload))
        elif kind == frames.REQUEST:
            self._handle_request(flags, call_id, payload, now_us, events)
        else:
            self._handle_data(flags, call_id, payload, now_us, events)

    def _handle_request(
        self, flags: int, call_id: int, payload: bytes, now_us: int, events: list[Event]
    ) -> None:
        is_background = flags & frames.BACKGROUND != 0
        send_class = BACKGROUND_CLASS if is_background else INTERACTIVE
        self._calls_in.claim_id(call_id, send_class)
        is_streamed = flags & frames.STREAMED != 0
        if not is_streamed and not flags & frames.END:
            raise ProtocolViolation("A request must either end or be streamed.")
        request = decode(Request, payload)
        if self.goes_away:
            refusal = "This node is closing the connection and takes no new calls."
        else:
            refusal = self._calls_in.refusal(len(request.body), is_background=is_background)
        if refusal:
            self._refuse(call_id, send_class, busy(refusal), now_us)
            return
        call = CallIn(
            call_id,
            request.method,
            request.body,
            request.idempotency_key,
            request.trace,
            send_class,
            _CLASS_FLAGS[send_class],
            now_us + request.remaining_ms * MILLISECOND_US,
            open_windows() if is_streamed else None,
            has_all_items=flags & frames.END != 0,
        )
        self._calls_in.add(call)
        self._wake_by(min(call.deadline_us, now_us + PING_BUSY_US))
        events.append(Called(call))

    def _handle_data(
        self, flags: int, call_id: int, item: bytes, now_us: int, events: list[Event]
    ) -> None:
        is_end = flags & frames.END != 0
        cost = 0 if is_end and not item else item_cost(len(item))  # an empty end is no item
        if cost:
            self._receive_window.arrived(cost)
        call = self._find(call_id)
        if call is None:
            if cost:
                self._grant(0, self._receive_window.consumed(cost), now_us)
            return
        if call.windows is None:
            raise ProtocolViolation(f"An item arrived in call {call_id}, which carries none.")
        if isinstance(call, CallIn):
            if call.has_all_items:
                raise ProtocolViolation(f"An item arrived in call {call_id} after the last one.")
            call.has_all_items = is_end
        elif is_end:
            raise ProtocolViolation("Only an answer ends what the callee sends.")
        if cost:
            call.windows.receive.arrived(cost)
            events.append(ItemArrived(call, item))
        if is_end and isinstance(call, CallIn):
            events.append(ItemsEnded(call))

    def _handle_call_frame(self, frame: frames.Frame, events: list[Event]) -> None:
        kind, _, call_id, payload = frame
        if kind == frames.WINDOW:
            self._handle_window(call_id, decode(Window, payload), events)
            return
        if self._calls_in.is_theirs(call_id) != (kind == frames.CANCEL):
            raise ProtocolViolation(f"A frame of type {kind} comes from the wrong side.")
        if kind == frames.CANCEL:
            message = decode(Cancel, payload)
            served = self._calls_in.by_id.get(call_id)
            if served is None:
                self._calls_in.check_issued(call_id)
                return
            self._calls_in.drop(served)
            events.append(Withdrawn(served, message.reason))
            return
        record = decode(ErrorRecord, payload)
        call = self._calls_out.by_id.get(call_id)
        if call is None:
            self._calls_out.check_issued(call_id)
            return
        self._calls_out.drop(call)
        events.append(Failed(call, from_record(record, remote=True)))

    def _handle_window(self, call_id: int, message: Window, events: list[Event]) -> None:
        if not call_id:
            self._send_window.grant(message.granted_bytes)
            events.append(WindowOpened(None))
            return
        call = self._find(call_id)
        if call is None:
            return
        if call.windows is None:
            raise ProtocolViolation(f"Call {call_id} carries no items and has no window.")
        call.windows.send.grant(message.granted_bytes)
        events.append(WindowOpened(call))

    def _handle_connection_frame(
        self, frame: frames.Frame, now_us: int, events: list[Event]
    ) -> None:
        kind, _, call_id, payload = frame
        if call_id:
            raise ProtocolViolation(f"A frame of type {kind} belongs to no call.")
        if kind == frames.PING:
            if len(payload) != PING_BYTES:
                raise ProtocolViolation(f"A PING has {PING_BYTES} bytes, not {len(payload)}.")
            self.queue.put(CONTROL, encode_frame(frames.PONG, 0, 0, payload), now_us)
        elif kind == frames.PONG:
            self.heartbeat.pong(payload, now_us)
        elif kind == frames.GOAWAY:
            self.peer_goes_away = decode(GoAway, payload)
            events.append(GoingAway(self.peer_goes_away))
        else:
            raise ProtocolViolation(f"A frame of type {kind} has no place here.")

    # What both directions share.

    def _find(self, call_id: int) -> CallOut | CallIn | None:
        """None for a call that has ended; a violation for one that never was."""
        if self._calls_in.is_theirs(call_id):
            served = self._calls_in.by_id.get(call_id)
            if served is None:
                self._calls_in.check_issued(call_id)
            return served
        call = self._calls_out.by_id.get(call_id)
        if call is None:
            self._calls_out.check_issued(call_id)
        return call

    def _check_may_call(self, method: str, body: bytes, now_us: int) -> None:
        assert len(method) <= MAX_METHOD_CHARS, "methods have short names"
        _check_size("The request", method, body)
        if self.goes_away or self.peer_goes_away is not None or self.is_broken:
            raise ConnectionLost("This connection is being closed and takes no new calls.")
        if self.queue.stuck_us(now_us) > STUCK_SOFT_US:
            raise busy("The peer has not read for a while.")

    def _put_message(
        self, call: CallOut | CallIn, kind: int, flags: int, payload: bytes, now_us: int
    ) -> None:
        if len(payload) <= self._max_payload:
            frame = encode_frame(kind, flags, call.id, payload)
            self.queue.put(call.send_class, frame, now_us)
            return
        for frame in encode_message(kind, flags, call.id, payload, self._max_payload):
            self.queue.put(call.send_class, frame, now_us)

    def _refuse(self, call_id: int, send_class: int, error: SwarmError, now_us: int) -> None:
        payload = encode(error.record())
        frame = encode_frame(frames.ERROR, _CLASS_FLAGS[send_class], call_id, payload)
        self.queue.put(send_class, frame, now_us)

    def _grant(self, call_id: int, granted_bytes: int, now_us: int) -> None:
        if granted_bytes:
            payload = encode(Window(granted_bytes))
            self.queue.put(CONTROL, encode_frame(frames.WINDOW, 0, call_id, payload), now_us)

    def _wake_by(self, when_us: int) -> None:
        self.wake_us = min(self.wake_us, when_us)

    def _expire(self, now_us: int, events: list[Event]) -> None:
        for call in self._calls_out.expired(now_us):
            self.cancel_call(call, "deadline", now_us)
            error = DeadlineExceeded(f"{call.method} was not answered in time.")
            events.append(Failed(call, error))
        for served in self._calls_in.expired(now_us):
            self._calls_in.drop(served)
            error = DeadlineExceeded(f"{served.method} took longer than the caller allows.")
            self._refuse(served.id, served.send_class, error, now_us)
            events.append(Withdrawn(served, "deadline"))

    def _shed_background(self, events: list[Event]) -> None:
        for call_id in self.queue.shed_background():
            call = self._calls_out.by_id[call_id]
            self._calls_out.drop(call)
            events.append(Failed(call, busy("The peer does not read; this call was withdrawn.")))

    def _overload(self) -> LimitExceeded:
        return LimitExceeded(
            f"The peer does not read: {self.queue.waiting_bytes} bytes wait for it."
        )

    def _break(self, code: int, error: SwarmError, events: list[Event]) -> None:
        self.is_broken = True
        events.append(Broken(code, error))


def _check_size(what: str, method: str, content: bytes) -> None:
    assert isinstance(content, bytes), f"{what} of {method} is no bytes"
    if len(content) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"{what} of {method} has {len(content)} bytes; at most {MAX_MESSAGE_BYTES} fit."
        )
