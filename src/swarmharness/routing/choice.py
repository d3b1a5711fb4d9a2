"""A choice picks the node for one attempt among those that offer the skill.

The rule of this version: the node with the least expected wait, counted in this submitter's own
calls per place, with nodes that failed lately made to look busier; equals are drawn at random so
that many submitters do not all pick the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from swarmharness.kernel.ids import NodeId

BELIEVED_PLACES = 64  # a large machine; a node that claims more would draw every task to itself


class Candidate(NamedTuple):
    """A node that offers the skill, as this submitter knows it now."""

    node: NodeId
    in_flight: int
    places: int
    recent_failures: int = 0

    def expected_wait(self) -> tuple[int, float]:
        """Smaller is better; a node that failed lately comes after every one that did not."""
        places = max(1, min(self.places, BELIEVED_PLACES))
        return self.recent_failures, (self.in_flight + 1) / places


def choose(
    candidates: Sequence[Candidate],
    excluded: Collection[NodeId],
    draw: Callable[[int], int],
) -> Candidate | None:
    """The best candidate, or None when none is left. `draw(n)` gives a number below n."""
    left = [candidate for candidate in candidates if candidate.node not in excluded]
    if not left:
        return None
    best = min(candidate.expected_wait() for candidate in left)
    equals = sorted(c for c in left if c.expected_wait() == best)
    return equals[draw(len(equals))]
