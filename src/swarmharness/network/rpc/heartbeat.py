"""The heartbeat pings a quiet connection and decides when its peer is dead.

Theory of operation. A crashed peer looks like silence, so silence must be broken by a question:
every 15 s on an idle connection, every second while somebody waits for an answer. A peer that
sends nothing at all for 10 s after a PING is gone (half-open); one that talks but never answers
for 30 s is broken. A timer of ours that fires much too late means that this process slept
(suspended laptop, stopped by a debugger): the peer then gets its full time again.
"""

from __future__ import annotations

from typing import Final, final

from swarmharness.network.rpc.limits import (
    OWN_STALL_US,
    PING_BUSY_US,
    PING_BYTES,
    PING_IDLE_US,
    PONG_US,
    SILENCE_US,
)
from swarmharness.network.rpc.rtt import RttEstimator

_ALIVE: Final = ""


@final
class Heartbeat:
    """Fed with what arrives and with the time; says when to ping."""

    def __init__(self, now_us: int) -> None:
        self.rtt = RttEstimator()
        self._heard_us = now_us
        self._pinged_us = now_us - PING_IDLE_US
        self._pings = 0
        self._waits_for_pong = False

    def heard(self, now_us: int) -> None:
        """Any bytes came."""
        self._heard_us = now_us

    def ping(self, now_us: int, *, is_busy: bool) -> bytes | None:
        """The payload of a PING that is due now."""
        if self._waits_for_pong or now_us < self._pinged_us + _interval_us(is_busy=is_busy):
            return None
        self._waits_for_pong = True
        self._pinged_us = now_us
        self._pings += 1
        return self._pings.to_bytes(PING_BYTES, "big")

    def pong(self, payload: bytes, now_us: int) -> None:
        """Only the newest PING's answer counts; any other payload is a late or invented one."""
        if self._waits_for_pong and payload == self._pings.to_bytes(PING_BYTES, "big"):
            self._waits_for_pong = False
            self.rtt.add(now_us - self._pinged_us)

    def verdict(self, now_us: int, due_us: int) -> str:
        """Why the peer counts as dead, or "". `due_us` is when this question should have come."""
        if now_us > due_us + OWN_STALL_US:
            self._heard_us = self._pinged_us = now_us
        if not self._waits_for_pong:
            return _ALIVE
        if now_us >= max(self._heard_us, self._pinged_us) + SILENCE_US:
            return f"The peer has been silent for {SILENCE_US // 1_000_000} s."
        if now_us >= self._pinged_us + PONG_US:
            return f"The peer has not answered a PING for {PONG_US // 1_000_000} s."
        return _ALIVE

    def next_us(self, now_us: int, *, is_busy: bool) -> int:
        """When to ask again."""
        if is_busy or self._waits_for_pong:
            return now_us + PING_BUSY_US
        return self._pinged_us + PING_IDLE_US


def _interval_us(*, is_busy: bool) -> int:
    return PING_BUSY_US if is_busy else PING_IDLE_US
