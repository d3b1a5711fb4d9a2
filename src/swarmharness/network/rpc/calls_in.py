"""Calls in are the calls that the peer has made and that this side admits, serves and counts.

A call leaves the table as soon as it is answered or withdrawn, but counts until its handler has
ended: a peer cannot pile up handlers by cancelling faster than they unwind.
"""

from __future__ import annotations

from typing import final

from swarmharness.network.errors import ProtocolViolation
from swarmharness.network.rpc.call_budget import CallBudget
from swarmharness.network.rpc.calls import CallIn
from swarmharness.network.rpc.limits import (
    BACKGROUND_CALLS_PER_PEER,
    CALLS_PER_PEER,
    HELD_REQUEST_BYTES,
)
from swarmharness.network.rpc.send_queue import BACKGROUND_CLASS


@final
class CallsIn:
    """The table, the highest ids seen, and what the handlers hold."""

    def __init__(self, budget: CallBudget, *, is_dialer: bool) -> None:
        self.by_id: dict[int, CallIn] = {}
        self.serving = 0
        self._budget = budget
        self._parity = 0 if is_dialer else 1
        self._last_ids = [0, 0, 0]  # by class: within one, ids rise on the wire
        self._background = 0
        self._held_bytes = 0

    @property
    def interactive(self) -> int:
        return self.serving - self._background

    @property
    def last_id(self) -> int:
        return max(self._last_ids)

    def is_theirs(self, call_id: int) -> bool:
        """Whether the peer, not we, gives out such ids."""
        return call_id & 1 == self._parity

    def claim_id(self, call_id: int, send_class: int) -> None:
        """Each id once: a second request under it is a violation."""
        if not call_id or call_id & 1 != self._parity:
            raise ProtocolViolation(f"Call id {call_id} is not one that the peer may use.")
        if call_id <= self._last_ids[send_class] or call_id in self.by_id:
            raise ProtocolViolation(f"Call id {call_id} was used before.")
        self._last_ids[send_class] = call_id

    def refusal(self, body_bytes: int, *, is_background: bool) -> str:
        """Why there is no room for this call, or ""; then its place in the budget is taken."""
        if self.serving >= CALLS_PER_PEER:
            return f"This node serves {self.serving} calls for this peer already."
        if is_background and self._background >= BACKGROUND_CALLS_PER_PEER:
            return f"This node serves {self._background} background calls already."
        if self._held_bytes + body_bytes > HELD_REQUEST_BYTES:
            return f"This node holds {self._held_bytes} bytes of requests of this peer already."
        if not self._budget.try_take(self.serving):
            return f"This node serves {self._budget.taken} calls already."
        return ""

    def add(self, call: CallIn) -> None:
        """After an empty `refusal`."""
        self.by_id[call.id] = call
        self.serving += 1
        self._held_bytes += len(call.body)
        if call.send_class == BACKGROUND_CLASS:
            self._background += 1

    def drop(self, call: CallIn) -> bool:
        """Whether the call was still active."""
        if not call.is_active:
            return False
        call.is_active = False
        del self.by_id[call.id]
        return True

    def release(self, call: CallIn) -> None:
        """The handler has ended. Repeating this changes nothing."""
        if call.is_released:
            return
        call.is_released = True
        self.drop(call)
        self.serving -= 1
        self._held_bytes -= len(call.body)
        if call.send_class == BACKGROUND_CLASS:
            self._background -= 1
        self._budget.give_back(self.serving)

    def expired(self, now_us: int) -> list[CallIn]:
        return [call for call in self.by_id.values() if call.deadline_us <= now_us]

    def check_issued(self, call_id: int) -> None:
        """A frame about a call that has ended is late; about one never made it is a lie."""
        if not call_id or call_id > self.last_id:
            raise ProtocolViolation(f"A frame arrived for call {call_id}, which was never made.")
