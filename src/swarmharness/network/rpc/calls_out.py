"""Calls out are the calls that this side has made and that have no answer yet."""

from __future__ import annotations

from typing import final

from swarmharness.network.errors import ConnectionLost, PeerBusy, ProtocolViolation
from swarmharness.network.rpc.calls import CallOut
from swarmharness.network.rpc.limits import (
    BACKGROUND_CALLS_PER_PEER,
    CALLS_PER_PEER,
    MAX_CALL_ID,
    RETRY_AFTER_MS,
)
from swarmharness.network.rpc.send_queue import BACKGROUND_CLASS


def busy(sentence: str) -> PeerBusy:
    """The refusal of a call for lack of room, here or there."""
    return PeerBusy(sentence, data={"retry_after_ms": RETRY_AFTER_MS})


@final
class CallsOut:
    """The table, and the ids that were given out."""

    def __init__(self, *, is_dialer: bool) -> None:
        self.by_id: dict[int, CallOut] = {}
        self._next_id = 1 if is_dialer else 2
        self._background = 0

    @property
    def interactive(self) -> int:
        return len(self.by_id) - self._background

    def check_room(self, *, is_background: bool) -> None:
        """Refuses one call too many."""
        if len(self.by_id) >= CALLS_PER_PEER:
            raise busy(f"{len(self.by_id)} calls to this peer are under way.")
        if is_background and self._background >= BACKGROUND_CALLS_PER_PEER:
            raise busy(f"{self._background} background calls to this peer are under way.")
        if self._next_id > MAX_CALL_ID:
            raise ConnectionLost("This connection has used up its call ids; dial again.")

    def new_id(self) -> int:
        call_id = self._next_id
        self._next_id = call_id + 2
        return call_id

    def add(self, call: CallOut) -> None:
        self.by_id[call.id] = call
        if call.send_class == BACKGROUND_CLASS:
            self._background += 1

    def drop(self, call: CallOut) -> bool:
        """Whether the call was still active."""
        if not call.is_active:
            return False
        call.is_active = False
        del self.by_id[call.id]
        if call.send_class == BACKGROUND_CLASS:
            self._background -= 1
        return True

    def expired(self, now_us: int) -> list[CallOut]:
        return [call for call in self.by_id.values() if call.deadline_us <= now_us]

    def check_issued(self, call_id: int) -> None:
        """A frame about a call that has ended is late; about one never made it is a lie."""
        if not call_id or (call_id ^ self._next_id) & 1 or call_id >= self._next_id:
            raise ProtocolViolation(f"A frame arrived for call {call_id}, which was never made.")
