"""Playbooks of one task: each row of the table, and the rules about declines and failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.kernel.ids import NodeId
from swarmharness.network.errors import ConnectionLost, DialRefused
from swarmharness.skills.errors import (
    HandlerFailed,
    InvalidInput,
    Overloaded,
    SandboxLost,
    SkillBroken,
)
from swarmharness.tasks.errors import AttemptsExhausted, NobodyOffers, TaskCancelled, TaskExpired
from swarmharness.tasks.lifecycle import (
    FAILURE_LIMIT,
    FIRST_PAUSE_MS,
    LONGEST_PAUSE_MS,
    TRANSITIONS,
    Accepted,
    AttemptFailed,
    Await,
    Begin,
    CancelRequested,
    ChooseNode,
    Chosen,
    Close,
    DeadlinePassed,
    Lifecycle,
    NobodyLeft,
    Offer,
    Pause,
    PauseEnded,
    ResultReceived,
)
from swarmharness.tasks.task import TaskRequest, TaskState

A, B, C, D = (NodeId(bytes([n]) * 32) for n in range(1, 5))
NOBODY = frozenset[NodeId]()
TAKEN: set[tuple[TaskState, type]] = set()


class Play:
    """`play(event, expected effect)`; notes which rows of the table were taken."""

    def __init__(self, **request: object) -> None:
        self.core = Lifecycle(TaskRequest(skill="s", input=b"{}", **request), now_us=0)
        self.now_us = 0

    def __call__(self, event: object, expected: object) -> Play:
        TAKEN.add((self.core.state, type(event)))
        effect = self.core.handle(event, self.now_us)
        if isinstance(expected, type):
            assert isinstance(effect, Close)
            assert isinstance(effect.error, expected), effect.error
        else:
            assert effect == expected
        return self


def begun(**request: object) -> Play:
    return Play(**request)(Begin(), ChooseNode(NOBODY))(Chosen(A), Offer(A, 1))


def test_a_task_that_goes_well() -> None:
    play = begun()(Accepted(), Await())(ResultReceived(), Close(TaskState.COMPLETED, None))
    assert play.core.state.is_terminal


def test_nobody_offers_it() -> None:
    Play()(Begin(), ChooseNode(NOBODY))(NobodyLeft(), NobodyOffers)


def test_a_skill_that_is_here_but_broken_says_so() -> None:
    Play()(Begin(), ChooseNode(NOBODY))(NobodyLeft(SkillBroken("bad import")), SkillBroken)


def test_a_lost_executor_is_replaced_and_the_task_completes() -> None:
    play = begun()(Accepted(), Await())
    play(AttemptFailed(ConnectionLost("gone")), ChooseNode(frozenset({A})))
    play(Chosen(B), Offer(B, 2))(Accepted(), Await())
    play(ResultReceived(), Close(TaskState.COMPLETED, None))


def test_without_retry_the_first_failure_ends_it() -> None:
    begun(retry=False)(Accepted(), Await())(AttemptFailed(SandboxLost("x")), SandboxLost)


def test_a_decline_moves_on_even_without_retry() -> None:
    begun(retry=False)(AttemptFailed(DialRefused("no")), ChooseNode(frozenset({A})))


def test_a_connection_that_dies_with_the_offer_may_have_started_the_handler() -> None:
    begun(retry=False)(AttemptFailed(ConnectionLost("gone")), ConnectionLost)
    begun()(AttemptFailed(ConnectionLost("gone")), ChooseNode(frozenset({A})))


def test_the_handlers_own_failure_is_the_answer() -> None:
    begun()(Accepted(), Await())(AttemptFailed(HandlerFailed("bug")), HandlerFailed)


def test_bad_input_is_the_answer_before_and_after_the_start() -> None:
    begun()(AttemptFailed(InvalidInput("no")), InvalidInput)
    begun()(Accepted(), Await())(AttemptFailed(InvalidInput("no")), InvalidInput)


def test_a_task_that_kills_every_executor_is_given_up() -> None:
    play = begun()
    for number in range(1, FAILURE_LIMIT):
        play(Accepted(), Await())
        failed = frozenset(NodeId(bytes([n]) * 32) for n in range(1, number + 1))
        play(AttemptFailed(SandboxLost("x")), ChooseNode(failed))
        node = NodeId(bytes([number + 1]) * 32)
        play(Chosen(node), Offer(node, number + 1))
    play(Accepted(), Await())(AttemptFailed(SandboxLost("x")), AttemptsExhausted)
    assert len(play.core.history) == FAILURE_LIMIT


def test_when_all_are_full_the_task_waits_longer_and_longer_and_asks_all_again() -> None:
    play = Play()(Begin(), ChooseNode(NOBODY))
    pause = FIRST_PAUSE_MS
    for attempt in range(1, 9):
        play(Chosen(A), Offer(A, attempt))
        play(AttemptFailed(Overloaded("full")), ChooseNode(frozenset({A})))
        play(NobodyLeft(), Pause(pause))
        play(PauseEnded(), ChooseNode(NOBODY))
        pause = min(LONGEST_PAUSE_MS, 2 * pause)
    assert pause == LONGEST_PAUSE_MS


def test_an_unreachable_node_is_not_asked_again_after_the_wait() -> None:
    play = begun()(AttemptFailed(DialRefused("no")), ChooseNode(frozenset({A})))
    play(Chosen(B), Offer(B, 2))(AttemptFailed(Overloaded("full")), ChooseNode(frozenset({A, B})))
    play(NobodyLeft(), Pause(FIRST_PAUSE_MS))(PauseEnded(), ChooseNode(frozenset({A})))


def test_when_all_were_unreachable_the_reasons_are_told() -> None:
    play = begun()(AttemptFailed(DialRefused("closed port")), ChooseNode(frozenset({A})))
    play(NobodyLeft(), AttemptsExhausted)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_cancel_and_deadline_end_it_from_every_open_state(steps: int) -> None:
    for event, expected in ((CancelRequested(), TaskCancelled), (DeadlinePassed(), TaskExpired)):
        play = Play()(Begin(), ChooseNode(NOBODY))
        for step in [(Chosen(A), Offer(A, 1)), (Accepted(), Await())][:steps]:
            play(*step)
        play(event, expected)


def test_any_event_after_the_deadline_expires_it() -> None:
    play = begun(deadline_ms=1000)
    play.now_us = 1_000_000
    play(AttemptFailed(Overloaded("full")), TaskExpired)
    assert play.core.state is TaskState.EXPIRED


def test_a_result_at_the_deadline_still_counts() -> None:
    play = begun(deadline_ms=1000)(Accepted(), Await())
    play.now_us = 2_000_000
    play(ResultReceived(), Close(TaskState.COMPLETED, None))


def test_an_unlisted_pair_is_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        Play().core.handle(ResultReceived(), 0)


def test_every_row_of_the_table_was_taken() -> None:
    if len(TAKEN) < 5:
        pytest.skip("this test looks at what the playbooks of the whole module did")
    assert set(TRANSITIONS) <= TAKEN


@given(st.lists(st.integers(0, 6), max_size=60), st.randoms(use_true_random=False))
def test_any_course_of_events_ends_in_exactly_one_close(script: list[int], random: object) -> None:
    core = Lifecycle(TaskRequest(skill="s", input=b"{}", deadline_ms=5_000), now_us=0)
    effect = core.handle(Begin(), 0)
    now_us, closes = 0, 0
    for choice in script:
        now_us += 1_000
        match effect:
            case Close():
                closes += 1
                break
            case ChooseNode(excluded):
                left = [n for n in (A, B, C, D) if n not in excluded]
                event = Chosen(left[choice % len(left)]) if left else NobodyLeft()
            case Offer() | Await():
                outcomes = [
                    *([Accepted()] if isinstance(effect, Offer) else [ResultReceived()]),
                    AttemptFailed(Overloaded("full")),
                    AttemptFailed(ConnectionLost("gone")),
                    AttemptFailed(HandlerFailed("bug")),
                    CancelRequested(),
                ]
                event = outcomes[choice % len(outcomes)]
            case Pause(ms):
                now_us += ms * 1_000
                event = PauseEnded()
        effect = core.handle(event, now_us)
    assert closes <= 1
    assert isinstance(effect, Close) == core.state.is_terminal
