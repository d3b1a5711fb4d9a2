"""The frame writer is the only one that writes the framed stream of a connection.

Theory of operation. Frames of a burst leave together: the writer's task runs at the loop's next
turn and takes all that was queued until then. A frame that is alone, because no other call is
under way, does not wait for that turn where the stream takes it at once. Only the task ever waits
for the stream, and only the end of the connection cancels it: a caller who leaves cannot tear a
frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import final

from swarmharness.network.rpc.mux import Mux
from swarmharness.network.transport.seam import EagerStream, Stream


@final
class FrameWriter:
    """`moved` is called after each write, `idled` when nothing is left to write."""

    def __init__(
        self,
        mux: Mux,
        stream: Stream,
        now_us: Callable[[], int],
        *,
        moved: Callable[[], None],
        idled: Callable[[], None],
    ) -> None:
        self._mux = mux
        self._stream = stream
        self._eager = stream if isinstance(stream, EagerStream) else None
        self._untaken = b""
        self._now_us = now_us
        self._moved = moved
        self._idled = idled
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether everything was handed to the transport."""
        return self._waiter is not None and not self._mux.queue.waiting_bytes

    async def run(self) -> None:
        """Until cancelled, or the stream's error."""
        while True:
            data = self._untaken or self._mux.take(self._now_us())
            self._untaken = b""
            if data:
                await self._stream.write(data)
                self._moved()
                continue
            self._waiter = self._loop.create_future()
            self._idled()
            await self._waiter

    def kick(self, *, at_once: bool = False) -> None:
        """Frames may have been queued; `at_once` when nothing is likely to follow them."""
        waiter = self._waiter
        if waiter is None or not self._mux.queue.waiting_bytes:
            return
        if at_once and self._eager is not None and self._mux.is_quiet:
            data = self._mux.take(self._now_us())
            if not self._eager.try_write(data):
                self._untaken = data
            elif not self._mux.queue.waiting_bytes:
                self._idled()
                return
        self._waiter = None
        if not waiter.done():
            waiter.set_result(None)
