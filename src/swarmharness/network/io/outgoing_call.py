"""An outgoing call is our side of a streamed call: items both ways, then one answer."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self, final

from swarmharness.kernel.errors import SwarmError
from swarmharness.network.errors import CallCancelled
from swarmharness.network.io.item_queue import ItemQueue
from swarmharness.network.rpc.calls import CallOut
from swarmharness.network.rpc.limits import MAX_TIMEOUT_MS

if TYPE_CHECKING:
    from swarmharness.network.io.rpc_connection import RpcConnection


@final
class OutgoingCall:
    """`async with` starts the call; leaving the block before the answer cancels it."""

    def __init__(
        self,
        connection: RpcConnection,
        method: str,
        body: bytes,
        *,
        timeout_ms: int,
        idempotency_key: bytes | None,
        trace: bytes,
        is_background: bool,
    ) -> None:
        assert 0 < timeout_ms <= MAX_TIMEOUT_MS, "a call needs a timeout of at most a day"
        self._connection = connection
        self.method = method
        self.body = body
        self.timeout_ms = timeout_ms
        self.idempotency_key = idempotency_key
        self.trace = trace
        self.is_background = is_background
        self._items = ItemQueue()
        self._state: CallOut | None = None
        self._answer: bytes | None = None
        self._error: SwarmError | None = None

    async def __aenter__(self) -> Self:
        self._state = await self._connection.start_stream(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        state = self._started()
        self._connection.cancel_stream(state)
        for size in self._items.drop_unread():
            self._connection.consumed(state, size)

    async def send(self, item: bytes) -> None:
        """Waits while the peer has not read enough; raises what ended the call, if it ended."""
        try:
            await self._connection.send_item(self._started(), item)
        except CallCancelled:
            raise self._error or CallCancelled(f"{self.method} was answered already.") from None

    async def finish(self) -> None:
        """No more items from us."""
        self._connection.finish_items(self._started())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        item = await self._items.get()
        if item is None:
            raise StopAsyncIteration
        self._connection.consumed(self._started(), len(item))
        return item

    async def result(self) -> bytes:
        """The answer; items that were not read until now are dropped."""
        async for _ in self:
            pass
        assert self._answer is not None, "items end only with an answer or an error"
        return self._answer

    def arrived(self, item: bytes) -> None:
        """Called by the connection."""
        self._items.put(item)

    def answered(self, body: bytes) -> None:
        """Called by the connection."""
        self._answer = body
        self._items.end()

    def failed(self, error: SwarmError) -> None:
        """Called by the connection."""
        self._error = error
        self._items.end(error)

    def _started(self) -> CallOut:
        assert self._state is not None, "a streamed call is used inside its `async with` block"
        return self._state
