"""An incoming call is what a method's handler sees of the peer's request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, final

from swarmharness.kernel.ids import NodeId
from swarmharness.network.io.item_queue import ItemQueue
from swarmharness.network.rpc.calls import CallIn
from swarmharness.network.rpc.limits import MILLISECOND_US

if TYPE_CHECKING:
    from swarmharness.network.io.rpc_connection import RpcConnection


@final
class IncomingCall:
    """Async-iterable over the caller's items.

    The handler is cancelled when the caller leaves or the deadline passes.
    """

    __slots__ = ("connection", "has_started", "items", "state")

    def __init__(self, connection: RpcConnection, state: CallIn) -> None:
        self.connection = connection
        self.state = state
        self.has_started = False
        self.items: ItemQueue | None = None
        if state.windows is not None:
            self.items = ItemQueue()
            if state.has_all_items:
                self.items.end()

    @property
    def method(self) -> str:
        return self.state.method

    @property
    def body(self) -> bytes:
        return self.state.body

    @property
    def caller(self) -> NodeId:
        return self.connection.remote_id

    @property
    def idempotency_key(self) -> bytes | None:
        """The same for every repetition of one request."""
        return self.state.idempotency_key

    @property
    def trace(self) -> bytes:
        return self.state.trace

    @property
    def is_streamed(self) -> bool:
        """Whether the caller takes items; `send` is refused otherwise."""
        return self.items is not None

    @property
    def is_background(self) -> bool:
        return self.state.flags != 0

    def remaining_ms(self) -> int:
        """What calls made on the caller's behalf may take."""
        left_us = self.state.deadline_us - self.connection.now_us()
        return max(0, left_us // MILLISECOND_US)

    async def send(self, item: bytes) -> None:
        """Waits while the caller has not read enough."""
        await self.connection.send_item(self.state, item)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        item = await self.items.get() if self.items is not None else None
        if item is None:
            raise StopAsyncIteration
        self.connection.consumed(self.state, len(item))
        return item
