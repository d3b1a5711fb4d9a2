"""Playbooks of one mux: what it hears, what it then says and means."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmharness.kernel.codec import decode, encode
from swarmharness.kernel.errors import ErrorRecord
from swarmharness.network.errors import (
    ConnectionLost,
    DeadlineExceeded,
    PeerBusy,
    UnknownMethod,
)
from swarmharness.network.rpc import events, frames
from swarmharness.network.rpc.call_budget import CallBudget
from swarmharness.network.rpc.frames import FrameReader, encode_frame, encode_message
from swarmharness.network.rpc.limits import (
    BACKGROUND_CALLS_PER_PEER,
    CALL_WINDOW_BYTES,
    CALLS_PER_PEER,
    CONNECTION_WINDOW_BYTES,
    HELD_REQUEST_BYTES,
    MAX_CALL_ID,
    MAX_MESSAGE_BYTES,
    MAX_WINDOW_BYTES,
    QUEUE_HARD_BYTES,
    STUCK_HARD_US,
    STUCK_SOFT_US,
)
from swarmharness.network.rpc.messages import Cancel, GoAway, Hello, Request, Window
from swarmharness.network.rpc.mux import Mux
from swarmharness.network.transport.seam import (
    CLOSE_IDLE,
    CLOSE_OVERLOADED,
    CLOSE_PROTOCOL_VIOLATION,
)

HELLO = Hello(b"n" * 32, b"r" * 16)
S = 1_000_000


class Play:
    """A mux that has dialled (its calls are odd) and a peer made of bytes."""

    def __init__(self, *, greeted=True, is_dialer=True, budget=None, hello=HELLO):
        self.now = 0
        self.budget = budget or CallBudget()
        self.mux = Mux(is_dialer=is_dialer, hello=HELLO, budget=self.budget, now_us=0)
        self.reader = FrameReader()
        if greeted:
            heard = self.hear(frames.HELLO, 0, 0, encode(hello))
            assert heard == ["Greeted"]
            self.said()

    def hear(self, *frame):
        return self.hear_bytes(encode_frame(*frame))

    def hear_bytes(self, data):
        self.last = self.mux.receive(data, self.now)
        return [type(event).__name__ for event in self.last]

    def said(self):
        """What was said since, without the chatter of pings."""
        data = b""
        while part := self.mux.take(self.now):
            data += part
        return [frame for frame in self.reader.feed(data) if frame[0] != frames.PING]

    def wake(self, now_us):
        self.now = now_us
        self.last = self.mux.wake(now_us)
        return [type(event).__name__ for event in self.last]

    def call(self, **options):
        options.setdefault("timeout_ms", 60_000)
        return self.mux.start_call("m", b"body", self.now, **options)

    def asked(self, call_id, flags=frames.END, body=b"", remaining_ms=60_000):
        request = encode(Request("m", remaining_ms, None, b"", body))
        return self.hear(frames.REQUEST, flags, call_id, request)

    def violates(self, *frame, word=""):
        assert self.hear(*frame)[-1:] == ["Broken"]
        broken = self.last[-1]
        assert broken.code == CLOSE_PROTOCOL_VIOLATION
        assert broken.error.blame == "peer"
        assert word in broken.error.sentence
        assert self.hear(frames.PING, 0, 0, bytes(8)) == []


def error_frame(call_id, error, flags=0):
    return (frames.ERROR, flags, call_id, encode(error.record()))


# HELLO


def test_hello_is_said_first_and_must_be_heard_first():
    play = Play(greeted=False)
    assert play.said() == [(frames.HELLO, 0, 0, encode(HELLO))]
    play.violates(frames.PING, 0, 0, bytes(8), word="HELLO")


@pytest.mark.parametrize(
    ("hello", "word"),
    [
        (Hello(b"m" * 32, b"r" * 16), "network"),
        (Hello(b"n" * 32, b"r" * 16, versions=(9,)), "protocol"),
        (Hello(b"n" * 32, b"r" * 16, max_frame=100), "too small"),
        (Hello(b"n" * 31, b"r" * 16), "Hello"),
        (Hello(b"n" * 32, b"r" * 16, agent="x" * 65), "Hello"),
    ],
)
def test_hellos_that_do_not_fit(hello, word):
    Play(greeted=False).violates(frames.HELLO, 0, 0, encode(hello), word=word)


def test_a_second_hello_or_one_inside_a_call_is_a_violation():
    Play().violates(frames.HELLO, 0, 0, encode(HELLO))
    Play(greeted=False).violates(frames.HELLO, 0, 1, encode(HELLO))


def test_a_newer_hello_with_more_fields_is_understood():
    play = Play(greeted=False)
    newer = encode([*decode(list, encode(HELLO)), "a field of tomorrow"])
    assert play.hear(frames.HELLO, 0, 0, newer) == ["Greeted"]


def test_the_peer_s_smaller_frames_are_respected():
    play = Play(hello=Hello(b"n" * 32, b"r" * 16, max_frame=4096))
    play.mux.start_call("m", bytes(10_000), 0, timeout_ms=1000)
    sizes = [len(frame[3]) for frame in play.said()]
    assert len(sizes) == 3
    assert max(sizes) == 4096 - frames.HEADER_BYTES


# Calls that we make


def test_a_call_and_its_answer():
    play = Play()
    call = play.call(idempotency_key=b"k" * 16, trace=b"t")
    kind, flags, call_id, payload = play.said()[0]
    assert (kind, flags, call_id) == (frames.REQUEST, frames.END, 1)
    assert decode(Request, payload) == Request("m", 60_000, b"k" * 16, b"t", b"body")
    assert play.hear(frames.RESPONSE, frames.END, 1, b"answer") == ["Answered"]
    assert play.last[0].call is call
    assert play.last[0].body == b"answer"
    assert play.mux.calls_waiting == 0


def test_ids_are_odd_for_the_dialer_and_even_for_the_acceptor():
    assert [Play().call().id, Play(is_dialer=False).call().id] == [1, 2]
    play = Play()
    assert [play.call().id for _ in range(3)] == [1, 3, 5]


def test_an_error_comes_back_as_its_class_and_unknown_codes_are_kept():
    play = Play()
    play.call()
    play.call()
    assert play.hear(*error_frame(1, UnknownMethod("No such."))) == ["Failed"]
    assert type(play.last[0].error) is UnknownMethod
    record = ErrorRecord("future.thing", "world", "Tomorrow's error.")
    play.hear(frames.ERROR, 0, 3, encode(record))
    assert play.last[0].error.code == "future.thing"


def test_the_peer_s_own_fault_is_the_peer_s_fault_here():
    play = Play()
    play.call()
    play.hear(frames.ERROR, 0, 1, encode(ErrorRecord("kernel.internal_error", "self", "Oops.")))
    assert play.last[0].error.blame == "peer"


def test_the_deadline_told_to_the_peer_is_shorter_by_one_round_trip():
    play = Play()
    play.mux.heartbeat.rtt.add(30_000)
    play.call(timeout_ms=100)
    play.call(timeout_ms=10)
    told = [decode(Request, frame[3]).remaining_ms for frame in play.said()]
    assert told == [70, 1]


def test_the_deadline_of_our_call():
    play = Play()
    play.call(timeout_ms=500)
    play.said()
    assert play.mux.wake_us <= 500_000
    assert play.wake(499_999) == []
    assert play.wake(500_000) == ["Failed"]
    assert isinstance(play.last[0].error, DeadlineExceeded)
    assert play.said()[0][:3] == (frames.CANCEL, 0, 1)
    assert play.hear(frames.RESPONSE, frames.END, 1, b"late") == []
    assert play.hear(*error_frame(1, DeadlineExceeded("late"))) == []


def test_cancelling_before_anything_was_sent_sends_nothing():
    play = Play()
    call = play.call()
    play.mux.cancel_call(call, "why", 0)
    play.mux.cancel_call(call, "why", 0)
    assert play.said() == []


def test_cancelling_a_sent_call_says_so_once():
    play = Play()
    call = play.call()
    play.said()
    play.mux.cancel_call(call, "w" * 500, 0)
    play.mux.cancel_call(call, "why", 0)
    (frame,) = play.said()
    assert decode(Cancel, frame[3]).reason == "w" * 200


def test_an_answer_that_crosses_our_cancel_is_dropped_with_its_items():
    play = Play()
    call = play.call(is_streamed=True)
    play.said()
    play.mux.cancel_call(call, "why", 0)
    assert play.hear(frames.DATA, 0, 1, b"item") == []
    assert play.hear(frames.RESPONSE, frames.END, 1, b"late") == []


@pytest.mark.parametrize("call_id", [0, 2, 3, MAX_CALL_ID])
def test_an_answer_to_a_call_never_made_is_a_violation(call_id):
    for frame in (
        (frames.RESPONSE, frames.END, call_id, b""),
        error_frame(call_id, UnknownMethod("No.")),
    ):
        play = Play()
        play.call()
        play.violates(*frame)


def test_limits_of_calls_under_way_and_their_end():
    play = Play()
    calls = [play.call() for _ in range(CALLS_PER_PEER)]
    with pytest.raises(PeerBusy) as caught:
        play.call()
    assert caught.value.data["retry_after_ms"] > 0
    play.mux.cancel_call(calls[0], "", 0)
    play.call()


def test_background_calls_have_a_smaller_limit_and_their_own_flag():
    play = Play()
    for _ in range(BACKGROUND_CALLS_PER_PEER):
        play.call(is_background=True)
    with pytest.raises(PeerBusy):
        play.call(is_background=True)
    play.call()
    assert play.said()[-1][1] == frames.END | frames.BACKGROUND


def test_used_up_ids_and_closing_connections_take_no_calls():
    play = Play()
    play.mux._calls_out._next_id = MAX_CALL_ID + 2
    with pytest.raises(ConnectionLost, match="ids"):
        play.call()
    play = Play()
    play.mux.go_away(1, "bye", 0)
    with pytest.raises(ConnectionLost):
        play.call()


# Calls that the peer makes


def test_a_served_call():
    play = Play()
    assert play.asked(2, body=b"question") == ["Called"]
    call = play.last[0].call
    assert (call.method, call.body, play.mux.calls_serving) == ("m", b"question", 1)
    play.mux.answer(call, b"answer", 0)
    assert play.said() == [(frames.RESPONSE, frames.END, 2, b"answer")]
    assert (play.mux.calls_serving, play.budget.taken) == (0, 0)


def test_a_long_answer_takes_several_frames():
    play = Play()
    play.asked(2)
    play.mux.answer(play.last[0].call, bytes(150_000), 0)
    assert [frame[1] for frame in play.said()] == [frames.MORE, frames.MORE, frames.END]


def test_a_withdrawn_call_is_not_answered_and_counts_until_released():
    play = Play()
    play.asked(2)
    call = play.last[0].call
    assert play.hear(frames.CANCEL, 0, 2, encode(Cancel("enough"))) == ["Withdrawn"]
    assert play.mux.calls_serving == 1
    play.mux.answer(call, b"too late", 0)
    play.mux.release(call)
    assert play.said() == []
    assert (play.mux.calls_serving, play.budget.taken) == (0, 0)
    assert play.hear(frames.CANCEL, 0, 2, encode(Cancel("again"))) == []


def test_the_deadline_of_a_served_call():
    play = Play()
    play.asked(2, remaining_ms=100)
    call = play.last[0].call
    assert play.wake(100_000) == ["Withdrawn"]
    (frame,) = play.said()
    assert decode(ErrorRecord, frame[3]).code == "network.deadline_exceeded"
    play.mux.fail(call, UnknownMethod("whatever"), 0)
    assert play.said() == []
    assert play.budget.taken == 0


@pytest.mark.parametrize("call_id", [0, 1, 7])
def test_a_request_under_an_id_of_ours_is_a_violation(call_id):
    play = Play()
    request = encode(Request("m", 1, None, b"", b""))
    play.violates(frames.REQUEST, frames.END, call_id, request, word="may use")


def test_a_request_id_works_once_running_or_not():
    for has_ended in (True, False):
        play = Play()
        play.asked(4)
        if has_ended:
            play.mux.answer(play.last[0].call, b"", 0)
        request = encode(Request("m", 1, None, b"", b""))
        play.violates(frames.REQUEST, frames.END, 4, request, word="used before")


def test_classes_may_overtake_each_other():
    play = Play()
    assert play.asked(4) == ["Called"]
    assert play.asked(2, frames.END | frames.BACKGROUND) == ["Called"]
    play = Play()
    play.asked(4)
    request = encode(Request("m", 1, None, b"", b""))
    play.violates(frames.REQUEST, frames.END | frames.BACKGROUND, 4, request)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        encode(["m" * 65, 1, None, b"", b""]),
        encode(["m", -1, None, b"", b""]),
        encode(["m", 2**40, None, b"", b""]),
        encode(["m", 1, b"short", b"", b""]),
        encode(["m", 1, None, bytes(65), b""]),
        encode(["m", 1, None, b"", "text"]),
    ],
)
def test_malformed_requests(payload):
    Play().violates(frames.REQUEST, frames.END, 2, payload, word="Request")


def test_a_request_that_neither_ends_nor_streams():
    Play().violates(frames.REQUEST, 0, 2, encode(Request("m", 1, None, b"", b"")))


def refused(play):
    (frame,) = play.said()
    record = decode(ErrorRecord, frame[3])
    assert (frame[0], record.code) == (frames.ERROR, "network.peer_busy")
    assert record.data["retry_after_ms"] > 0
    return record.sentence


def test_the_peer_s_calls_over_the_limits_are_refused_not_violations():
    play = Play()
    for index in range(CALLS_PER_PEER):
        assert play.asked(2 + 2 * index) == ["Called"]
    assert play.asked(1000) == []
    assert "128" in refused(play)

    play = Play()
    background = frames.END | frames.BACKGROUND
    for index in range(BACKGROUND_CALLS_PER_PEER):
        assert play.asked(2 + 2 * index, background) == ["Called"]
    assert play.asked(1000, background) == []
    assert "background" in refused(play)
    assert play.asked(1002) == ["Called"]

    play = Play(budget=CallBudget(0))
    assert play.asked(2) == []
    assert "serves 0" in refused(play)

    play = Play()
    play.mux.go_away(0, "bye", 0)
    play.said()
    assert play.asked(2) == []
    assert "closing" in refused(play)


def test_request_bodies_held_by_handlers_are_bounded():
    play = Play()
    request = encode(Request("m", 1000, None, b"", bytes(MAX_MESSAGE_BYTES)))
    for index in range(HELD_REQUEST_BYTES // MAX_MESSAGE_BYTES):
        wire = encode_message(
            frames.REQUEST, frames.END, 2 + 2 * index, request, frames.MAX_PAYLOAD_BYTES
        )
        assert play.hear_bytes(b"".join(wire)) == ["Called"]
    assert play.asked(1000, body=b"x") == []
    assert "bytes of requests" in refused(play)
    assert play.asked(1002, body=b"") == ["Called"]


def test_cancels_of_foreign_or_unknown_calls():
    Play().violates(frames.CANCEL, 0, 2, encode(Cancel("")), word="never made")
    play = Play()
    play.call()
    play.violates(frames.CANCEL, 0, 1, encode(Cancel("")), word="wrong side")


# Items


def test_items_and_grants():
    play = Play()
    assert play.asked(2, frames.STREAMED) == ["Called"]
    call = play.last[0].call
    half = bytes(CALL_WINDOW_BYTES // 2)
    wire = encode_message(frames.DATA, 0, 2, half, frames.MAX_PAYLOAD_BYTES)
    assert play.hear_bytes(b"".join(wire)) == ["ItemArrived"]
    assert play.last[0].item == half
    assert play.hear(frames.DATA, frames.END, 2, b"last") == ["ItemArrived", "ItemsEnded"]
    play.mux.consumed(call, len(half), 0)
    (frame,) = play.said()
    assert frame[:3] == (frames.WINDOW, 0, 2)
    assert decode(Window, frame[3]).granted_bytes == len(half) + 64
    play.violates(frames.DATA, 0, 2, b"more", word="after the last")


def test_an_empty_last_frame_is_no_item_but_an_empty_item_is():
    play = Play()
    play.asked(2, frames.STREAMED)
    assert play.hear(frames.DATA, 0, 2, b"") == ["ItemArrived"]
    assert play.hear(frames.DATA, frames.END, 2, b"") == ["ItemsEnded"]


def test_our_window_closes_and_opens():
    play = Play()
    call = play.call(is_streamed=True)
    sent = 0
    while play.mux.can_send_item(call):
        play.mux.send_item(call, bytes(10_000), 0)
        sent += 1
        play.said()
    assert sent == CALL_WINDOW_BYTES // 10_064 + 1
    assert play.hear(frames.WINDOW, 0, 1, encode(Window(20_000))) == ["WindowOpened"]
    assert play.mux.can_send_item(call)


def test_the_connection_s_window_closes_over_all_calls():
    play = Play()
    sent = 0
    calls = [play.call(is_streamed=True) for _ in range(30)]
    for call in calls:
        while play.mux.can_send_item(call):
            play.mux.send_item(call, bytes(10_000), 0)
            sent += 1
            play.said()
    assert sent == CONNECTION_WINDOW_BYTES // 10_064 + 1
    assert play.hear(frames.WINDOW, 0, 0, encode(Window(20_000))) == ["WindowOpened"]
    assert play.last[0].call is None
    assert play.mux.can_send_item(calls[-1])


def test_items_beyond_the_window_are_a_violation():
    play = Play()
    play.call(is_streamed=True)
    for _ in range(CALL_WINDOW_BYTES // 60_064 + 1):
        assert play.hear(frames.DATA, 0, 1, bytes(60_000)) == ["ItemArrived"]
    play.violates(frames.DATA, 0, 1, b"", word="window")


def test_items_in_a_plain_call_or_with_an_end_from_the_callee():
    play = Play()
    play.call()
    play.violates(frames.DATA, 0, 1, b"item", word="carries none")
    play = Play()
    play.call(is_streamed=True)
    play.violates(frames.DATA, frames.END, 1, b"item", word="Only an answer")
    Play().violates(frames.DATA, 0, 9, b"item", word="never made")


def test_dropped_items_of_an_ended_call_give_the_connection_s_window_back():
    play = Play()
    call = play.call(is_streamed=True)
    play.said()
    play.mux.cancel_call(call, "", 0)
    granted = 0
    for _ in range(200):
        assert play.hear(frames.DATA, 0, 1, bytes(60_000)) == []
        for frame in play.said():
            if frame[0] == frames.WINDOW:
                assert frame[2] == 0
                granted += decode(Window, frame[3]).granted_bytes
    assert granted > 2 * CONNECTION_WINDOW_BYTES


def test_bad_windows():
    play = Play()
    play.call()
    play.violates(frames.WINDOW, 0, 1, encode(Window(5)), word="no window")
    Play().violates(frames.WINDOW, 0, 0, encode([0]))
    Play().violates(frames.WINDOW, 0, 3, encode(Window(1)), word="never made")
    play = Play()
    play.hear(frames.WINDOW, 0, 0, encode(Window(MAX_WINDOW_BYTES - CONNECTION_WINDOW_BYTES)))
    play.violates(frames.WINDOW, 0, 0, encode(Window(1)), word="beyond")


def test_a_window_for_a_call_that_has_just_ended_is_late_not_wrong():
    play = Play()
    play.call(is_streamed=True)
    play.hear(frames.RESPONSE, frames.END, 1, b"")
    assert play.hear(frames.WINDOW, 0, 1, encode(Window(1))) == []


# The connection


def test_pings_are_answered_and_bad_ones_refused():
    play = Play()
    assert play.hear(frames.PING, 0, 0, b"12345678") == []
    assert play.said() == [(frames.PONG, 0, 0, b"12345678")]
    Play().violates(frames.PING, 0, 0, b"short")
    Play().violates(frames.PING, 0, 2, b"12345678", word="no call")


def test_a_ping_follows_hello_at_once():
    play = Play()
    play.wake(play.mux.wake_us)
    (frame,) = FrameReader().feed(play.mux.take(0))
    assert frame[0] == frames.PING
    play.now = 250
    play.hear(frames.PONG, 0, 0, frame[3])
    assert play.mux.heartbeat.rtt.srtt_us == 250


def test_goaway_ends_new_calls_only():
    play = Play()
    play.call()
    assert play.hear(frames.GOAWAY, 0, 0, encode(GoAway(1, 1, "bye"))) == ["GoingAway"]
    with pytest.raises(ConnectionLost):
        play.call()
    assert play.hear(frames.RESPONSE, frames.END, 1, b"") == ["Answered"]
    Play().violates(frames.GOAWAY, 0, 0, encode([999, 0, ""]))


def test_bulk_has_no_place_on_the_framed_stream():
    Play().violates(frames.OPEN_BULK, 0, 0, b"", word="no place")


def test_a_silent_peer_is_broken_off():
    play = Play()
    play.call()
    codes = []
    for second in range(20):
        play.wake(second * S)
        codes += [event.code for event in play.last if isinstance(event, events.Broken)]
    assert codes == [CLOSE_IDLE]


def test_a_peer_that_pings_without_reading_is_broken_off():
    play = Play()
    ping = encode_frame(frames.PING, 0, 0, bytes(8))
    for _ in range(QUEUE_HARD_BYTES // len(ping) // 100 + 1):
        names = play.hear_bytes(ping * 100)
    assert names == ["Broken"]
    assert play.last[0].code == CLOSE_OVERLOADED
    assert play.mux.queue.waiting_bytes < 2 * QUEUE_HARD_BYTES


def test_a_peer_that_does_not_read_first_loses_background_then_all():
    play = Play()
    play.said()
    kept = play.call(timeout_ms=600_000)
    shed = play.call(timeout_ms=600_000, is_background=True)
    at = STUCK_SOFT_US + 1
    heard = encode_frame(200, 0, 0, b"alive")
    play.now = at
    play.hear_bytes(heard)
    assert play.wake(at) == ["Failed"]
    assert play.last[0].call is shed
    assert isinstance(play.last[0].error, PeerBusy)
    with pytest.raises(PeerBusy, match="not read"):
        play.call()
    assert kept.is_active
    while at < STUCK_HARD_US + 2 * S and not play.mux.is_broken:
        at += S
        play.now = at
        play.hear_bytes(heard)
        play.wake(at)
    assert play.last[-1].code == CLOSE_OVERLOADED


# Any bytes


def lively_conversation():
    """Bytes of a peer that uses every frame type."""
    request = encode(Request("m", 1000, None, b"", b"x" * 100))
    long = encode_message(frames.REQUEST, frames.END, 6, request, 40)
    return b"".join(
        [
            encode_frame(frames.HELLO, 0, 0, encode(HELLO)),
            encode_frame(frames.REQUEST, frames.STREAMED, 2, request),
            encode_frame(frames.DATA, 0, 2, b"item"),
            encode_frame(180, 0, 0, b"from the future"),
            encode_frame(frames.RESPONSE, frames.END, 1, b"answer"),
            encode_frame(frames.REQUEST, frames.END | frames.BACKGROUND, 4, request),
            *long[:1],
            encode_frame(frames.PING, 0, 0, bytes(8)),
            encode_frame(frames.CANCEL, 0, 4, encode(Cancel("no"))),
            *long[1:],
            encode_frame(*error_frame(3, UnknownMethod("No."))),
            encode_frame(frames.WINDOW, 0, 2, encode(Window(10))),
            encode_frame(frames.DATA, frames.END, 2, b""),
            encode_frame(frames.GOAWAY, 0, 0, encode(GoAway(0, 3, "bye"))),
            encode_frame(frames.DATA, 0, 2, b"too much"),
        ]
    )


def meaning(cuts, data):
    play = Play(greeted=False)
    play.mux.start_call("m", b"", 0, timeout_ms=1000)
    play.mux.start_call("m", b"", 0, timeout_ms=1000)
    names = []
    for cut in cuts:
        names += play.hear_bytes(data[:cut])
        data = data[cut:]
    names += play.hear_bytes(data)
    return names, play.said()


@given(cuts=st.lists(st.integers(1, 90), max_size=80))
def test_any_cutting_of_the_bytes_means_the_same(cuts):
    data = lively_conversation()
    whole = meaning([], data)
    assert whole[0] == [
        "Greeted",
        "Called",
        "ItemArrived",
        "Answered",
        "Called",
        "Withdrawn",
        "Called",
        "Failed",
        "WindowOpened",
        "ItemsEnded",
        "GoingAway",
        "Broken",
    ]
    assert meaning(cuts, data) == whole


frame_bytes = st.builds(
    encode_frame,
    st.integers(0, 11),
    st.integers(0, 15),
    st.integers(0, 8),
    st.one_of(
        st.binary(max_size=40),
        st.just(encode(Request("m", 1000, None, b"", b"x"))),
        st.just(encode(Window(100))),
        st.just(encode(Cancel("c"))),
        st.just(encode(UnknownMethod("No.").record())),
    ),
)


@settings(max_examples=400)
@given(wires=st.lists(st.one_of(frame_bytes, st.binary(max_size=30)), max_size=30))
def test_any_bytes_are_events_or_one_violation(wires):
    play = Play()
    play.call()
    play.call(is_streamed=True)
    broken = []
    for wire in wires:
        play.hear_bytes(wire)
        broken += [event for event in play.last if isinstance(event, events.Broken)]
        for event in play.last:
            if isinstance(event, events.Called):
                play.mux.fail(event.call, UnknownMethod("No."), 0)
    assert len(broken) <= 1
    assert all(event.error.blame == "peer" for event in broken)
    assert play.budget.taken == 0
    assert play.mux.queue.waiting_bytes < 100_000
