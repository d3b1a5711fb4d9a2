from __future__ import annotations

import itertools

import pytest

from swarmharness.skills.sandbox.lifecycle import TRANSITIONS, Event, State, step


def test_the_way_of_a_forking_sandbox() -> None:
    state: State | None = State.SPAWN
    for event, expected in [
        (Event.LAUNCHED, State.BOOT),
        (Event.BOOTED, State.IMPORT),
        (Event.IMPORTED, State.READY),
        (Event.LEASED, State.BUSY),
        (Event.EMPTIED, State.READY),
        (Event.RETIRED, State.DEAD),
    ]:
        assert state is not None
        state = step(state, event)
        assert state is expected


def test_a_retired_sandbox_finishes_its_calls_and_takes_no_more() -> None:
    assert step(State.BUSY, Event.RETIRED) is State.DRAIN
    assert step(State.DRAIN, Event.FREED) is State.DRAIN
    assert step(State.DRAIN, Event.EMPTIED) is State.DEAD
    assert step(State.DRAIN, Event.LEASED) is None


@pytest.mark.parametrize("state", list(State))
def test_every_state_can_be_lost(state: State) -> None:
    assert step(state, Event.LOST) is State.DEAD


@pytest.mark.parametrize("event", [event for event in Event if event is not Event.LOST])
def test_the_dead_stay_dead(event: Event) -> None:
    assert step(State.DEAD, event) is None


def test_every_state_is_reached_and_can_end() -> None:
    reached = {State.SPAWN}
    for _ in State:
        reached |= {TRANSITIONS[pair] for pair in TRANSITIONS if pair[0] in reached}
    assert reached == set(State)


def test_only_a_ready_or_busy_sandbox_is_leased() -> None:
    leasable = {s for s, e in itertools.product(State, Event) if e is Event.LEASED and step(s, e)}
    assert leasable == {State.READY, State.BUSY}
