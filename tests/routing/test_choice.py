"""The least busy node is chosen, failures count against it, ties are drawn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmharness.kernel.ids import NodeId
from swarmharness.routing.choice import BELIEVED_PLACES, Candidate, choose

A, B, C = (NodeId(bytes([n]) * 32) for n in range(1, 4))


def first(_count: int) -> int:
    return 0


def test_nobody_left() -> None:
    assert choose([], set(), first) is None
    assert choose([Candidate(A, 0, 1)], {A}, first) is None


def test_more_places_mean_a_shorter_wait() -> None:
    chosen = choose([Candidate(A, 2, 2), Candidate(B, 2, 8)], set(), first)
    assert chosen is not None
    assert chosen.node == B


def test_more_places_than_a_machine_has_are_not_believed() -> None:
    boast = Candidate(A, 2, 10_000)
    assert boast.expected_wait() == Candidate(A, 2, BELIEVED_PLACES).expected_wait()
    assert boast.expected_wait() < Candidate(A, 2, BELIEVED_PLACES - 1).expected_wait()
    chosen = choose([boast, Candidate(B, 0, 32)], set(), first)
    assert chosen is not None
    assert chosen.node == B


def test_a_node_that_failed_lately_comes_last() -> None:
    chosen = choose([Candidate(A, 0, 8, recent_failures=1), Candidate(B, 5, 1)], set(), first)
    assert chosen is not None
    assert chosen.node == B


def test_equals_are_drawn_independently_of_their_order() -> None:
    equals = [Candidate(C, 1, 1), Candidate(A, 1, 1), Candidate(B, 1, 1)]
    drawn = [choose(equals, set(), lambda _count, n=n: n) for n in range(3)]
    assert [c.node for c in drawn if c] == [A, B, C]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(0, 2)), min_size=1))
def test_no_candidate_waits_less_than_the_chosen(loads: list[tuple[int, int, int]]) -> None:
    candidates = [Candidate(NodeId(bytes([n]) * 32), *load) for n, load in enumerate(loads)]
    chosen = choose(candidates, set(), first)
    assert chosen is not None
    assert all(chosen.expected_wait() <= other.expected_wait() for other in candidates)
