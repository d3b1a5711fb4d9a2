"""A clock is handed in, never reached for: the simulator owns time in tests.

Two times exist. Monotonic time, in microseconds, orders what one node does. Wall time, in
milliseconds since 1970, appears in what others read; it may jump and is never used to wait.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Both times of one node."""

    def now_us(self) -> int: ...

    def wall_ms(self) -> int: ...
