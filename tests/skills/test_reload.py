from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmharness.skills.reload import (
    FIRST_RETRY_US,
    LAST_RETRY_US,
    LOOK_INTERVAL_US,
    QUIET_US,
    ReloadCore,
)


def test_the_first_look_loads_at_once():
    core = ReloadCore()
    assert core.look({"b": "1", "a": "1"}, 1_000) == (["b", "a"], [])
    assert core.look({"b": "1", "a": "1"}, 2_000) == ([], [])
    assert core.next_look_us(2_000) == 2_000 + LOOK_INTERVAL_US


def test_a_change_waits_until_it_is_quiet():
    core = ReloadCore()
    core.look({"a": "1"}, 0)
    assert core.look({"a": "2"}, 1_000_000) == ([], [])
    assert core.next_look_us(1_000_000) == 1_000_000 + QUIET_US
    assert core.look({"a": "3"}, 1_300_000) == ([], [])
    assert core.look({"a": "3"}, 1_300_000 + QUIET_US - 1) == ([], [])
    assert core.look({"a": "3"}, 1_300_000 + QUIET_US) == (["a"], [])
    assert core.look({"a": "3"}, 9_000_000) == ([], [])


def test_a_new_folder_waits_too_because_it_may_be_half_copied():
    core = ReloadCore()
    core.look({}, 0)
    assert core.look({"a": "1"}, 1_000_000) == ([], [])
    assert core.look({"a": "1"}, 1_000_000 + QUIET_US) == (["a"], [])


def test_a_folder_that_is_gone_is_forgotten():
    core = ReloadCore()
    core.look({"a": "1"}, 0)
    assert core.look({}, 1) == ([], ["a"])
    assert core.look({}, 2) == ([], [])
    core.failed_here("a", 3)


def test_failures_of_the_machine_are_repeated_ever_more_slowly():
    core = ReloadCore()
    now_us = 0
    core.look({"a": "1"}, now_us)
    delays = []
    for _ in range(12):
        core.failed_here("a", now_us)
        failed_us = now_us
        while not core.look({"a": "1"}, now_us)[0]:
            now_us += 500_000
        delays.append(now_us - failed_us)
    assert delays[:4] == [FIRST_RETRY_US, 2_000_000, 4_000_000, 8_000_000]
    assert delays[-1] == LAST_RETRY_US


def test_a_change_ends_the_waiting():
    core = ReloadCore()
    core.look({"a": "1"}, 0)
    core.failed_here("a", 0)
    core.look({"a": "2"}, 100)
    assert core.look({"a": "2"}, 100 + QUIET_US) == (["a"], [])
    assert core.look({"a": "2"}, 100 + LAST_RETRY_US) == ([], [])


@given(st.lists(st.tuples(st.integers(0, 700_000), st.sampled_from("123")), max_size=30))
def test_every_signature_that_lasts_is_loaded_exactly_once(steps):
    core, now_us, loaded = ReloadCore(), 0, []
    for step_us, signature in steps:
        now_us += step_us
        due, _ = core.look({"a": signature}, now_us)
        loaded += [signature] * len(due)
    last = steps[-1][1] if steps else "1"
    for _ in range(2):
        now_us += QUIET_US
        due, _ = core.look({"a": last}, now_us)
        loaded += [last] * len(due)
    assert loaded[-1] == last
    assert core.look({"a": last}, now_us + LOOK_INTERVAL_US) == ([], [])
