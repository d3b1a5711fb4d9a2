"""A sandbox's lifecycle, from its launch to its death, as a table.

    SPAWN ──launched──> BOOT ──booted──> IMPORT ──imported──> READY <──> BUSY
      READY, BUSY ──retired──> DRAIN, which takes no call and ends with its last one;
      every state ──lost──> DEAD.

A pair that the table lacks is our own mistake when we cause the event, and the guest's breach
of protocol when a frame of its causes it: the caller of `step` knows which.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a sandbox stands."""

    SPAWN = "spawn"
    BOOT = "boot"
    IMPORT = "import"
    READY = "ready"
    BUSY = "busy"
    DRAIN = "drain"
    DEAD = "dead"


class Event(StrEnum):
    """What moves it."""

    LAUNCHED = "launched"
    BOOTED = "booted"
    IMPORTED = "imported"
    LEASED = "leased"
    FREED = "freed"
    """A call ended and others go on."""
    EMPTIED = "emptied"
    """The last call ended."""
    RETIRED = "retired"
    LOST = "lost"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.SPAWN, Event.LAUNCHED): State.BOOT,
    (State.BOOT, Event.BOOTED): State.IMPORT,
    (State.IMPORT, Event.IMPORTED): State.READY,
    (State.READY, Event.LEASED): State.BUSY,
    (State.BUSY, Event.LEASED): State.BUSY,  # a worker has several places
    (State.BUSY, Event.FREED): State.BUSY,
    (State.BUSY, Event.EMPTIED): State.READY,
    (State.READY, Event.RETIRED): State.DEAD,
    (State.BUSY, Event.RETIRED): State.DRAIN,
    (State.DRAIN, Event.RETIRED): State.DRAIN,
    (State.DRAIN, Event.FREED): State.DRAIN,
    (State.DRAIN, Event.EMPTIED): State.DEAD,
    **{(state, Event.LOST): State.DEAD for state in State},
}


def step(state: State, event: Event) -> State | None:
    """None: this event cannot happen in this state."""
    return TRANSITIONS.get((state, event))
