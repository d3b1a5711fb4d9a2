"""A reload happens when a folder has changed and then been quiet: this file decides when.

Theory of operation. Nobody tells us that a folder changed, so its *signature* (names, sizes,
times of its files, as one opaque text) is looked at every second. An editor saves several files
in a row and a copy takes a while; a folder is read only after its signature has stayed the same
for the quiet time. A folder seen in the very first look is read at once, because the node waits
for it.

A load that failed for the folder's own reasons is not repeated until the folder changes. One
that failed for the machine's reasons (no place for another sandbox) is repeated, ever more
slowly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import msgspec

LOOK_INTERVAL_US = 1_000_000  # an author who saves a file waits about a second
QUIET_US = 300_000  # editors and formatters write again within a tenth of that
FIRST_RETRY_US = 1_000_000  # most refusals of the machine pass within a second
LAST_RETRY_US = 300_000_000  # five minutes; the machine's state will not change faster


class _Watch(msgspec.Struct):
    """What is known of one folder."""

    seen: str
    since_us: int
    settled: bool = False
    retry_at_us: int | None = None
    failures: int = 0


@final
class ReloadCore:
    """Tells which folders are due; keys are the folders' paths."""

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}
        self._is_first_look = True

    def look(self, signatures: Mapping[str, str], now_us: int) -> tuple[list[str], list[str]]:
        """Folders to load now, in the order given, and folders that are gone."""
        gone = [key for key in self._watches if key not in signatures]
        for key in gone:
            del self._watches[key]
        due: list[str] = []
        for key, signature in signatures.items():
            watch = self._watches.get(key)
            if watch is None:
                since_us = now_us - QUIET_US if self._is_first_look else now_us
                watch = self._watches[key] = _Watch(signature, since_us)
            elif watch.seen != signature:
                watch = self._watches[key] = _Watch(signature, now_us)
            if self._is_due(watch, now_us):
                watch.settled, watch.retry_at_us = True, None
                due.append(key)
        self._is_first_look = False
        return due, gone

    def failed_here(self, key: str, now_us: int) -> None:
        """The machine, not the folder, stood in the way of loading `key`: try again later."""
        watch = self._watches.get(key)
        if watch is not None:
            delay_us = min(FIRST_RETRY_US << min(watch.failures, 16), LAST_RETRY_US)
            watch.failures += 1
            watch.retry_at_us = now_us + delay_us

    def next_look_us(self, now_us: int) -> int:
        """When to look again: soon while a folder is settling."""
        moments = [now_us + LOOK_INTERVAL_US]
        moments += [w.since_us + QUIET_US for w in self._watches.values() if not w.settled]
        return max(now_us, min(moments))

    @staticmethod
    def _is_due(watch: _Watch, now_us: int) -> bool:
        if not watch.settled:
            return now_us - watch.since_us >= QUIET_US
        return watch.retry_at_us is not None and now_us >= watch.retry_at_us
