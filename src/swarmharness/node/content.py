"""Content travels inside a message while it is small, and as bulk when it is not."""

from __future__ import annotations

from swarmharness.kernel.errors import MalformedMessage
from swarmharness.network.io.rpc_connection import RpcConnection
from swarmharness.tasks.messages import Content

INLINE_LIMIT = 256 * 1024  # bytes; a quarter of a message, so that several pieces fit in one
TICKET_TTL_MS = 120_000  # the other side fetches at once; this only bounds what a lost peer keeps
FETCH_MS = 120_000  # 64 MiB at less than a megabyte a second
FETCH_START_MS = 15_000  # a slow path's first bytes
FETCH_BYTES_PER_MS = 64  # half a megabit a second: slower than that, a place is held for too long


async def pack(connection: RpcConnection, data: bytes) -> Content:
    """Content that the peer of this connection can unpack."""
    if len(data) <= INLINE_LIMIT:
        return Content(inline=data)
    return Content(bulk=await connection.offer_bulk(data, ttl_ms=TICKET_TTL_MS))


def size_of(content: Content) -> int:
    """What the sender says it is, before anything is fetched."""
    return len(content.inline or b"") if content.bulk is None else content.bulk.size


async def unpack(
    connection: RpcConnection, content: Content, *, limit_bytes: int, timeout_ms: int = FETCH_MS
) -> bytes:
    """The bytes, wherever they travelled; more than `limit_bytes` is refused before it is sent."""
    if content.inline is not None and content.bulk is None:
        return content.inline
    if content.bulk is None or content.inline is not None:
        raise MalformedMessage("Content is either in the message or in bulk.")
    patience_ms = FETCH_START_MS + content.bulk.size // FETCH_BYTES_PER_MS
    return await connection.fetch_bulk(
        content.bulk, limit_bytes=limit_bytes, timeout_ms=min(timeout_ms, patience_ms, FETCH_MS)
    )
