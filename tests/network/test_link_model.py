import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmharness.network.link_model import (
    MIN_RETRANSMIT_US,
    MOBILE,
    PACKET_BYTES,
    WAN,
    Cut,
    LinkModel,
    LinkProfile,
)

AB = ("a", "b")
BA = ("b", "a")


def test_a_perfect_link_is_instant():
    assert LinkModel().carry(7, AB, 10**9) == 7


def test_latency_and_bandwidth_add_up_and_bytes_queue():
    model = LinkModel(default=LinkProfile(latency_us=1000, bytes_per_second=1_000_000))
    assert model.carry(0, AB, 500) == 1500
    assert model.carry(0, AB, 500) == 2000  # waits until the first has left
    assert model.carry(0, BA, 500) == 1500  # the other direction is another link
    assert model.carry(10_000, AB, 1) == 11_001  # the queue has drained


def test_jitter_stays_in_its_range_and_reaches_both_ends():
    model = LinkModel(default=LinkProfile(latency_us=10, jitter_us=3))
    assert {model.carry(0, AB, 1) for _ in range(200)} == {10, 11, 12, 13}


def test_a_loss_costs_one_timeout():
    model = LinkModel(default=LinkProfile(latency_us=1000, loss_ppm=1_000_000))
    assert model.carry(0, AB, 1) == 1000 + MIN_RETRANSMIT_US
    far = LinkModel(default=LinkProfile(latency_us=100_000, loss_ppm=1_000_000))
    assert far.carry(0, AB, 1) == 100_000 + 400_000


def test_many_packets_are_lost_more_often_than_one():
    model = LinkModel(default=LinkProfile(loss_ppm=10_000))
    single = sum(model.carry(0, AB, 1) > 0 for _ in range(1000))
    many = sum(model.carry(0, AB, 50 * PACKET_BYTES) > 0 for _ in range(1000))
    assert single < 30
    assert 300 < many < 500  # 1 - 0.99**50 is 0.39


def test_reordering_is_between_streams_only():
    profile = LinkProfile(latency_us=10, reorder_ppm=500_000, reorder_us=1000)
    model = LinkModel(default=profile)
    last_us = 0
    arrivals = []
    for now_us in range(100):
        last_us = model.carry(now_us, AB, 1, after_us=last_us)
        arrivals.append(last_us)
    assert arrivals == sorted(arrivals)
    free = [model.carry(now_us, AB, 1) for now_us in range(100)]
    assert free != sorted(free)


def test_a_cut_is_one_way_until_healed():
    model = LinkModel()
    model.cut(*AB, Cut.BLACKHOLE)
    assert model.cut_of(AB) is Cut.BLACKHOLE
    assert model.cut_of(BA) is None
    with pytest.raises(AssertionError):
        model.carry(0, AB, 1)
    model.heal(*AB)
    assert model.cut_of(AB) is None
    model.heal(*AB)


def test_a_cut_on_any_hop_cuts_the_route():
    model = LinkModel()
    model.cut("r", "b", Cut.REFUSE)
    assert model.cut_of(("a", "r", "b")) is Cut.REFUSE
    assert model.cut_of(("b", "r", "a")) is None


def test_a_slow_reader_delays_all_its_senders_together():
    model = LinkModel()
    model.slow_reader("b", 1_000_000)
    assert model.carry(0, AB, 1000) == 1000
    assert model.carry(0, ("c", "b"), 1000) == 2000
    assert model.carry(0, BA, 1000) == 0
    model.slow_reader("b", 0)
    assert model.carry(0, AB, 1000) == 0


def test_who_cannot_be_dialled_is_reached_through_the_relay():
    model = LinkModel(default=LinkProfile(latency_us=10))
    model.block_inbound("b")
    assert model.route("a", "b") is None
    assert model.route("b", "a") == BA
    model.set_relay("r")
    route = model.route("a", "b")
    assert route == ("a", "r", "b")
    assert model.carry(0, route, 1) == 20
    assert model.round_trip_us(route) == 40


def test_round_trips_count_both_directions():
    model = LinkModel()
    model.set_profile(*AB, LinkProfile(latency_us=100))
    model.set_profile(*BA, LinkProfile(latency_us=1))
    assert model.round_trip_us(AB) == model.round_trip_us(BA) == 101


def test_the_draws_of_one_link_do_not_move_those_of_another():
    def arrivals(*, noise: int) -> list[int]:
        model = LinkModel(seed=5, default=MOBILE)
        for _ in range(noise):
            model.carry(0, ("x", "y"), 1000)
        return [model.carry(i * 1000, AB, 100) for i in range(50)]

    assert arrivals(noise=0) == arrivals(noise=31)
    other = LinkModel(seed=6, default=MOBILE)
    assert arrivals(noise=0) != [other.carry(i * 1000, AB, 100) for i in range(50)]


@settings(derandomize=True, max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    sendings=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**5)), max_size=30),
)
def test_nothing_arrives_before_it_could(seed, sendings):
    model = LinkModel(seed, WAN)
    now_us = last_us = 0
    for pause_us, size in sendings:
        now_us += pause_us
        arrival = model.carry(now_us, AB, size, after_us=last_us)
        assert isinstance(arrival, int)
        assert arrival >= last_us
        assert arrival >= now_us + WAN.latency_us + size * 1_000_000 // WAN.bytes_per_second
        last_us = arrival
