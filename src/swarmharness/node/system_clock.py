"""The system clock of a real node."""

from __future__ import annotations

import time
from typing import final


@final
class SystemClock:
    """The machine's own two clocks."""

    def now_us(self) -> int:
        """Monotonic microseconds since an arbitrary start."""
        return time.monotonic_ns() // 1000

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000
