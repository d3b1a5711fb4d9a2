"""The round-trip time of a connection, smoothed as RFC 6298 smooths TCP's."""

from __future__ import annotations

from typing import Final, final

FIRST_RTO_US: Final = 1_000_000  # RFC 6298 2.1
MIN_RTO_US: Final = 150_000  # a busy peer's scheduling, not distance, sets the floor
MAX_RTO_US: Final = 3_000_000  # longer waits help nobody who has another peer to ask


@final
class RttEstimator:
    """`srtt_us` is 0 until the first sample."""

    def __init__(self) -> None:
        self.srtt_us = 0
        self.rttvar_us = 0

    def add(self, sample_us: int) -> None:
        """One measured round trip."""
        sample_us = max(1, sample_us)
        if not self.srtt_us:
            self.srtt_us = sample_us
            self.rttvar_us = sample_us // 2
            return
        self.rttvar_us = (3 * self.rttvar_us + abs(self.srtt_us - sample_us)) // 4
        self.srtt_us = max(1, (7 * self.srtt_us + sample_us) // 8)

    @property
    def rto_us(self) -> int:
        """How long to wait before an unanswered question counts as lost."""
        if not self.srtt_us:
            return FIRST_RTO_US
        return min(MAX_RTO_US, max(MIN_RTO_US, self.srtt_us + 4 * self.rttvar_us))
