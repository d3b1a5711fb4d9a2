from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmharness.kernel.rng import Rng

GOLDEN = [5873184970127381973, 533008054500284544, 2579034807539212982]
GOLDEN_FAR = 11933531111510961235


def test_the_stream_is_fixed_for_all_time():
    rng = Rng(7, "core", b"node")
    assert [rng.word() for _ in range(3)] == GOLDEN
    for _ in range(1000):
        rng.word()
    assert rng.word() == GOLDEN_FAR


def test_streams_of_other_seeds_purposes_and_names_share_nothing():
    keys = [(1, "net", "a"), (2, "net", "a"), (1, "disk", "a"), (1, "net", "b"), (1, "neta", "")]
    words = [rng.word() for rng in [Rng(*key) for key in keys] for _ in range(4)]
    assert len(set(words)) == 4 * len(keys)


def test_drawing_from_one_stream_leaves_another_alone():
    busy, quiet = Rng(1, "net", "busy"), Rng(1, "net", "quiet")
    for _ in range(100):
        busy.word()
    assert quiet.word() == Rng(1, "net", "quiet").word()


@settings(derandomize=True, max_examples=200)
@given(seed=st.integers(0, 2**70), limit=st.integers(1, 2**64))
def test_below_stays_below(seed, limit):
    rng = Rng(seed, "test")
    assert all(0 <= rng.below(limit) < limit for _ in range(20))


def test_below_is_fair_where_a_remainder_would_not_be():
    rng = Rng(1, "fair")
    limit = 3 << 62  # a plain remainder would give the lowest third twice as often
    thirds = Counter(rng.below(limit) >> 62 for _ in range(3000))
    assert all(900 < count < 1100 for count in thirds.values())


@pytest.mark.parametrize("limit", [0, -1, 2**64 + 1])
def test_below_refuses_an_impossible_limit(limit):
    with pytest.raises(AssertionError):
        Rng(1, "test").below(limit)


def test_between_includes_both_ends():
    rng = Rng(1, "test")
    assert {rng.between(-1, 1) for _ in range(100)} == {-1, 0, 1}


def test_chances_are_parts_per_million():
    rng = Rng(1, "test")
    assert not any(rng.happens(0) for _ in range(100))
    assert all(rng.happens(1_000_000) for _ in range(100))
    assert 200 < sum(rng.happens(250_000) for _ in range(1000)) < 300


def test_a_certain_answer_draws_too():
    certain, open_ = Rng(1, "test"), Rng(1, "test")
    certain.happens(0)
    open_.happens(500_000)
    assert certain.word() == open_.word()


def test_shuffle_keeps_the_items_and_reaches_every_order():
    rng = Rng(1, "test")
    orders = set()
    for _ in range(200):
        items = [1, 2, 3]
        rng.shuffle(items)
        assert sorted(items) == [1, 2, 3]
        orders.add(tuple(items))
    assert len(orders) == 6


def test_choice_reaches_every_option():
    rng = Rng(1, "test")
    assert {rng.choice("abc") for _ in range(50)} == set("abc")


@settings(derandomize=True, max_examples=50)
@given(count=st.integers(0, 200))
def test_bytes_have_the_asked_length_and_repeat(count):
    drawn = Rng(3, "test").bytes(count)
    assert len(drawn) == count
    assert drawn == Rng(3, "test").bytes(200)[:count]
