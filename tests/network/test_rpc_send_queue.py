import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.network.rpc.limits import COALESCE_BYTES, QUEUE_HARD_BYTES, QUEUE_SOFT_BYTES
from swarmharness.network.rpc.send_queue import (
    BACKGROUND_CLASS,
    CONTROL,
    INTERACTIVE,
    SendQueue,
)


def test_what_fits_leaves_in_one_write_control_first():
    queue = SendQueue(0)
    queue.put(BACKGROUND_CLASS, b"b", 0)
    queue.put(INTERACTIVE, b"i", 0)
    queue.put(CONTROL, b"c", 0)
    assert queue.take(1) == b"cib"
    assert queue.take(1) == b""
    assert queue.waiting_bytes == 0


def test_classes_share_by_weight_while_all_of_them_wait():
    queue = SendQueue(0)
    for kind, letter in ((CONTROL, b"c"), (INTERACTIVE, b"i"), (BACKGROUND_CLASS, b"b")):
        for _ in range(2000):
            queue.put(kind, letter * 1024, 0)
    taken = b"".join(queue.take(0) for _ in range(13))
    shares = [taken.count(letter) / len(taken) for letter in (b"c", b"i", b"b")]
    assert shares == pytest.approx([8 / 13, 4 / 13, 1 / 13], abs=0.02)


@given(
    puts=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([1, 100, 9_000, 65_536])), max_size=40
    ),
    takes=st.lists(st.booleans(), max_size=40),
)
def test_nothing_is_lost_and_each_class_keeps_its_order(puts, takes):
    queue = SendQueue(0)
    expected: dict[int, list[int]] = {0: [], 1: [], 2: []}
    out = b""
    turns = iter(takes)
    for number, (kind, size) in enumerate(puts):
        frame = bytes([kind, number]) * size
        queue.put(kind, frame[: max(2, size)], 0)
        expected[kind].append(number)
        if next(turns, False):
            out += queue.take(0)
    while data := queue.take(0):
        assert len(data) <= COALESCE_BYTES
        out += data
    assert queue.waiting_bytes == 0
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    at = 0
    while at < len(out):
        kind, number = out[at], out[at + 1]
        seen[kind].append(number)
        at += max(2, puts[number][1])
    assert seen == expected


def test_an_unsent_request_can_be_withdrawn_once():
    queue = SendQueue(0)
    queue.put(INTERACTIVE, b"first", 0, 1)
    queue.put(INTERACTIVE, b"second", 0, 3)
    assert queue.withdraw(INTERACTIVE, 1)
    assert not queue.withdraw(INTERACTIVE, 1)
    assert queue.take(0) == b"second"
    assert not queue.withdraw(INTERACTIVE, 3)


def test_shedding_takes_background_requests_only():
    queue = SendQueue(0)
    queue.put(INTERACTIVE, b"i", 0, 1)
    queue.put(BACKGROUND_CLASS, b"b", 0, 3)
    queue.put(BACKGROUND_CLASS, b"answer", 0)
    assert queue.shed_background() == [3]
    assert queue.take(0) == b"ianswer"


def test_full_overrun_and_stuck():
    queue = SendQueue(0)
    queue.put(CONTROL, bytes(QUEUE_SOFT_BYTES), 10)
    assert not queue.is_full
    queue.put(CONTROL, b"x", 10)
    assert queue.is_full
    assert not queue.is_overrun
    queue.put(CONTROL, bytes(QUEUE_HARD_BYTES - QUEUE_SOFT_BYTES), 10)
    assert queue.is_overrun
    assert queue.stuck_us(500) == 490


def test_an_empty_queue_is_never_stuck_and_a_take_counts_as_movement():
    queue = SendQueue(0)
    assert queue.stuck_us(10**9) == 0
    queue.put(CONTROL, bytes(50_000), 100)
    queue.put(CONTROL, bytes(50_000), 200)
    queue.take(300)
    assert queue.stuck_us(350) == 50
