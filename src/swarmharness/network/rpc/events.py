"""Events are what a connection's bytes and its clock mean; the driver acts on them in order."""

from __future__ import annotations

from typing import final

import msgspec

from swarmharness.kernel.errors import SwarmError
from swarmharness.network.rpc.calls import CallIn, CallOut
from swarmharness.network.rpc.messages import GoAway, Hello


@final
class Greeted(msgspec.Struct, frozen=True, eq=False):
    """The peer's HELLO fits ours; calls may start."""

    hello: Hello


@final
class Answered(msgspec.Struct, frozen=True, eq=False):
    """The answer to our call."""

    call: CallOut
    body: bytes


@final
class Failed(msgspec.Struct, frozen=True, eq=False):
    """Our call ended without an answer."""

    call: CallOut
    error: SwarmError


@final
class Called(msgspec.Struct, frozen=True, eq=False):
    """The peer calls; the driver must `release` the call once its handler has ended."""

    call: CallIn


@final
class Withdrawn(msgspec.Struct, frozen=True, eq=False):
    """The peer's call was cancelled or ran out of time: stop its handler."""

    call: CallIn
    reason: str


@final
class ItemArrived(msgspec.Struct, frozen=True, eq=False):
    """One item of a streamed call; the driver reports `consumed` when somebody has read it."""

    call: CallOut | CallIn
    item: bytes


@final
class ItemsEnded(msgspec.Struct, frozen=True, eq=False):
    """The peer sends no more items in this call."""

    call: CallIn


@final
class WindowOpened(msgspec.Struct, frozen=True, eq=False):
    """More items may be sent in this call, or (None) on the whole connection."""

    call: CallOut | CallIn | None


@final
class GoingAway(msgspec.Struct, frozen=True, eq=False):
    """The peer takes no new calls."""

    message: GoAway


@final
class Broken(msgspec.Struct, frozen=True, eq=False):
    """The connection must be closed with this code; no event follows."""

    code: int
    error: SwarmError


Event = (
    Greeted
    | Answered
    | Failed
    | Called
    | Withdrawn
    | ItemArrived
    | ItemsEnded
    | WindowOpened
    | GoingAway
    | Broken
)
