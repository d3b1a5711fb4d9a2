"""A control connection is closed by the node when it does not ask for anything.

Theory of operation. The loopback port can be reached by every user of the machine, and a token is
looked at only once a request is complete. So what costs nothing to hold must not be held for ever:
from the opening of a connection, and again from the end of each answer, a complete request has
`REQUEST_S` to arrive. While a request is being answered, nothing is counted. Connections beyond
`OPEN_LIMIT` are closed unanswered, long before the process runs out of descriptors.
"""

from __future__ import annotations

import asyncio
from typing import final

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10.0  # for a whole request; the largest body takes a fraction of a second on loopback
OPEN_LIMIT = 320  # connections of one listener; those over its limit of requests still hear a 503


@final
class ControlConnection(H11Protocol):
    """Uvicorn's protocol with an end to its patience."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Counts it, and begins to wait."""
        super().connection_made(transport)
        if len(self.connections) > OPEN_LIMIT:
            self.transport.abort()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A piece of a request does not earn more time; only its end does."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The next request may come."""
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            self._stop_waiting()
        elif self._patience is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(REQUEST_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
