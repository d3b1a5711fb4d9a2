"""The egress log remembers why a skill's connections were made, refused or cut.

It is the answer to "why could my skill not reach that host": the last decisions in full, and a
count of every outcome since the sandbox started. Destinations come from the sandbox and are
clipped; nothing that went over a connection is kept.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from enum import StrEnum
from typing import final

import msgspec

from swarmharness.kernel.clock import Clock

DECISION_LIMIT = 256  # decisions kept in full; a skill that loops must not fill the memory
TARGET_LIMIT = 300  # characters of a destination; a name and its port fit


class Outcome(StrEnum):
    """What became of one request to connect."""

    ALLOWED = "allowed"
    HOST_UNLISTED = "host_unlisted"
    PORT_UNLISTED = "port_unlisted"
    ADDRESS_PRIVATE = "address_private"
    NAME_UNRESOLVED = "name_unresolved"
    UNREACHABLE = "unreachable"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    MALFORMED = "malformed"
    HEAD_TIMEOUT = "head_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    BYTE_LIMIT = "byte_limit"
    BROKEN_REPLY = "broken_reply"


@final
class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log. `address` is set once something was dialled."""

    wall_ms: int
    target: str
    outcome: Outcome
    address: str = ""


@final
class EgressLog:
    """Of one sandbox, or of several that belong to the same skill."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recent: deque[Decision] = deque(maxlen=DECISION_LIMIT)
        self._counts: Counter[Outcome] = Counter()
        self.bytes_out = 0
        self.bytes_in = 0

    def note(self, target: str, outcome: Outcome, address: str = "") -> None:
        """An allowed connection that is cut later has a second line, which says why."""
        self._counts[outcome] += 1
        self._recent.append(
            Decision(
                wall_ms=self._clock.wall_ms(),
                target=target[:TARGET_LIMIT],
                outcome=outcome,
                address=address,
            )
        )

    def recent(self) -> tuple[Decision, ...]:
        """Oldest first."""
        return tuple(self._recent)

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """Every outcome since the start, also of decisions no longer kept."""
        return dict(self._counts)
