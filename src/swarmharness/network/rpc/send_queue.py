"""The send queue orders what waits for the one writer: control, interactive, background.

Theory of operation. Only one writer takes bytes from here, so cancelling a call can never leave
half a frame on the stream. Classes share by deficit round-robin, 8:4:1, so background makes
progress and never delays a person's call by more than its share. Within a class messages keep
their order and do not interleave, which is what lets a receiver assemble in bounded memory.

`stuck_us` is the time since the writer last took something while something waited: the one
sign of a peer that does not read.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from swarmharness.network.rpc.limits import (
    CLASS_WEIGHTS,
    COALESCE_BYTES,
    QUANTUM_BYTES,
    QUEUE_HARD_BYTES,
    QUEUE_SOFT_BYTES,
)

CONTROL: Final = 0
INTERACTIVE: Final = 1
BACKGROUND_CLASS: Final = 2

Entry = tuple[int, bytes]
"""A call that may still be withdrawn (0: none), and a frame."""


@final
class SendQueue:
    """Frames in, coalesced writes out."""

    def __init__(self, now_us: int) -> None:
        self.waiting_bytes = 0
        self._classes: tuple[deque[Entry], ...] = (deque(), deque(), deque())
        self._deficits = [0, 0, 0]
        self._turn = 0
        self._moved_us = now_us

    @property
    def is_full(self) -> bool:
        """New calls and items wait; answers to the peer's control frames do not."""
        return self.waiting_bytes > QUEUE_SOFT_BYTES

    @property
    def is_overrun(self) -> bool:
        return self.waiting_bytes > QUEUE_HARD_BYTES

    def stuck_us(self, now_us: int) -> int:
        return now_us - self._moved_us if self.waiting_bytes else 0

    def put(self, kind: int, frame: bytes, now_us: int, withdrawable: int = 0) -> None:
        """One frame; `withdrawable` names its call while nothing of that call was sent."""
        if not self.waiting_bytes:
            self._moved_us = now_us
        self.waiting_bytes += len(frame)
        self._classes[kind].append((withdrawable, frame))

    def withdraw(self, kind: int, call: int) -> bool:
        """Whether the call's only frame was still here; it is gone then."""
        entries = self._classes[kind]
        for index, (withdrawable, frame) in enumerate(entries):
            if withdrawable == call:
                del entries[index]
                self.waiting_bytes -= len(frame)
                return True
        return False

    def shed_background(self) -> list[int]:
        """The calls whose background requests were still waiting, now withdrawn."""
        entries = self._classes[BACKGROUND_CLASS]
        calls = [call for call, _ in entries if call]
        for call in calls:
            self.withdraw(BACKGROUND_CLASS, call)
        return calls

    def take(self, now_us: int) -> bytes:
        """The next write, at most 64 KiB; empty when nothing waits."""
        if not self.waiting_bytes:
            return b""
        self._moved_us = now_us
        if self.waiting_bytes <= COALESCE_BYTES:
            parts = [frame for entries in self._classes for _, frame in entries]
            for entries in self._classes:
                entries.clear()
            self._deficits = [0, 0, 0]
            self.waiting_bytes = 0
        else:
            parts = self._take_shares()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take_shares(self) -> list[bytes]:
        """More waits than one write may carry, so the write is full before the queue is empty."""
        parts: list[bytes] = []
        size = 0
        while True:
            entries = self._classes[self._turn]
            while entries and len(entries[0][1]) <= self._deficits[self._turn]:
                if size + len(entries[0][1]) > COALESCE_BYTES:
                    self.waiting_bytes -= size
                    return parts
                frame = entries.popleft()[1]
                self._deficits[self._turn] -= len(frame)
                size += len(frame)
                parts.append(frame)
            if not entries:
                self._deficits[self._turn] = 0
            self._turn = (self._turn + 1) % len(self._classes)
            if self._classes[self._turn]:
                self._deficits[self._turn] += CLASS_WEIGHTS[self._turn] * QUANTUM_BYTES
