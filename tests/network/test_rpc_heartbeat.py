from hypothesis import given
from hypothesis import strategies as st

from swarmharness.network.rpc.heartbeat import Heartbeat
from swarmharness.network.rpc.limits import OWN_STALL_US, PING_IDLE_US, PONG_US, SILENCE_US
from swarmharness.network.rpc.rtt import FIRST_RTO_US, MAX_RTO_US, MIN_RTO_US, RttEstimator

S = 1_000_000


def test_idle_connections_are_pinged_every_15_s_and_busy_ones_every_second():
    beat = Heartbeat(0)
    first = beat.ping(0, is_busy=False)
    assert first is not None
    beat.pong(first, 100)
    assert beat.rtt.srtt_us == 100
    assert beat.ping(14 * S, is_busy=False) is None
    assert beat.next_us(14 * S, is_busy=False) == PING_IDLE_US
    second = beat.ping(14 * S, is_busy=True)
    assert second not in (None, first)
    assert beat.next_us(14 * S, is_busy=False) == 15 * S


def test_only_one_ping_waits_and_only_its_own_pong_counts():
    beat = Heartbeat(0)
    ping = beat.ping(0, is_busy=True)
    assert beat.ping(5 * S, is_busy=True) is None
    beat.pong(b"invented", 10)
    assert beat.rtt.srtt_us == 0
    beat.pong(ping, 20)
    beat.pong(ping, 2 * S)
    assert beat.rtt.srtt_us == 20


def test_silence_after_a_ping_is_death_and_any_byte_is_life():
    beat = Heartbeat(0)
    assert beat.verdict(100 * S, 100 * S) == ""  # nothing was asked yet
    beat.ping(0, is_busy=True)
    assert beat.verdict(SILENCE_US - 1, SILENCE_US - 1) == ""
    assert "silent" in beat.verdict(SILENCE_US, SILENCE_US)
    beat.heard(SILENCE_US)
    assert beat.verdict(SILENCE_US, SILENCE_US) == ""


def test_a_peer_that_talks_but_never_answers_is_given_up():
    beat = Heartbeat(0)
    beat.ping(0, is_busy=True)
    for second in range(30):
        beat.heard(second * S)
        assert beat.verdict(second * S, second * S) == ""
    beat.heard(PONG_US)
    assert "PING" in beat.verdict(PONG_US, PONG_US)


def test_a_node_that_slept_itself_does_not_blame_its_peer():
    beat = Heartbeat(0)
    beat.ping(0, is_busy=True)
    late = 3600 * S
    assert beat.verdict(late + OWN_STALL_US + 1, late) == ""
    assert "silent" in beat.verdict(late + 20 * S, late + 20 * S)


@given(samples=st.lists(st.integers(-5, 10**8), min_size=1, max_size=50))
def test_the_estimate_stays_between_its_samples_and_the_timeout_in_its_range(samples):
    rtt = RttEstimator()
    assert rtt.rto_us == FIRST_RTO_US
    for sample in samples:
        rtt.add(sample)
        assert MIN_RTO_US <= rtt.rto_us <= MAX_RTO_US
    assert 1 <= rtt.srtt_us <= max(1, *samples)


def test_rfc_6298_by_hand():
    rtt = RttEstimator()
    rtt.add(100_000)
    assert (rtt.srtt_us, rtt.rttvar_us, rtt.rto_us) == (100_000, 50_000, 300_000)
    rtt.add(200_000)
    assert (rtt.srtt_us, rtt.rttvar_us) == (112_500, 62_500)
