"""A call is one request, its answer, and the items that may travel both ways between them."""

from __future__ import annotations

from typing import final

import msgspec

from swarmharness.network.rpc.limits import CALL_WINDOW_BYTES
from swarmharness.network.rpc.windows import ReceiveWindow, SendWindow


class Windows(msgspec.Struct, eq=False):
    """Both directions of a streamed call."""

    send: SendWindow
    receive: ReceiveWindow


def open_windows() -> Windows:
    """As both sides assume at the start of a streamed call."""
    return Windows(SendWindow(CALL_WINDOW_BYTES), ReceiveWindow(CALL_WINDOW_BYTES))


@final
class CallOut(msgspec.Struct, eq=False):
    """A call that we made."""

    id: int
    method: str
    send_class: int
    flags: int
    deadline_us: int
    windows: Windows | None
    is_active: bool = True
    has_finished_items: bool = True


@final
class CallIn(msgspec.Struct, eq=False):
    """A call that the peer made. It counts as in flight until `Mux.release`, however it ends."""

    id: int
    method: str
    body: bytes
    idempotency_key: bytes | None
    trace: bytes
    send_class: int
    flags: int
    deadline_us: int
    windows: Windows | None
    is_active: bool = True
    has_all_items: bool = True
    is_released: bool = False
