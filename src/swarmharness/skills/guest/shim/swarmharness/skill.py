"""A handler's context: which task it serves, how long it has, and a way to say how far it is.

Using it is optional. `from swarmharness.skill import context` works only inside a sandbox.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

_MOST_THOUSANDTHS = 1000
_NOTE_LIMIT = 200  # characters; one line of a terminal
_PROGRESS_INTERVAL_S = 0.1  # people cannot read faster, and progress may not crowd out output


class Context:
    """One call, seen from its handler."""

    def __init__(
        self,
        *,
        task_id: str,
        caller: str,
        deadline_ms: int,
        directory: Path,
        report: Callable[[int, str], None],
    ) -> None:
        self.task_id = task_id
        self.caller = caller
        """`owner`, `space` or `public`."""
        self.directory = directory
        """Scratch space of this call, gone when it ends."""
        self.out = directory / "out"
        """Files left here go back to the caller as artifacts."""
        self._ends_at = time.monotonic() + deadline_ms / 1000
        self._report = report
        self._reported_at = 0.0

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())

    def progress(self, fraction: float, note: str = "") -> None:
        """Between 0 and 1. More often than ten times a second is left out, except the end."""
        now = time.monotonic()
        if fraction < 1 and now - self._reported_at < _PROGRESS_INTERVAL_S:
            return
        self._reported_at = now
        thousandths = round(min(1.0, max(0.0, fraction)) * _MOST_THOUSANDTHS)
        self._report(thousandths, note[:_NOTE_LIMIT])


_current: ContextVar[Context] = ContextVar("swarmharness.skill.context")


def context() -> Context:
    """The context of the call that runs; `LookupError` outside of one (at import, for example)."""
    return _current.get()
