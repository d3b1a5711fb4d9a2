"""The limits of one RPC connection, each with the reason for its size."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
MILLISECOND_US: Final = 1_000
SECOND_US: Final = 1_000_000

# Sizes on the wire.
MAX_FRAME_BYTES: Final = 64 * KIB  # with its header: one frame delays an urgent one by 5 ms at most
MIN_FRAME_BYTES: Final = 4 * KIB  # a peer that announces less would drown in headers
MAX_MESSAGE_BYTES: Final = MIB  # larger content is bulk, which resumes and never blocks a call
MAX_METHOD_CHARS: Final = 64  # `room.verb` names are short
MAX_TRACE_BYTES: Final = 64  # a W3C trace parent has 55
MAX_AGENT_CHARS: Final = 64  # name and version of the peer's software, for people
MAX_REASON_CHARS: Final = 200  # a sentence in a CANCEL or GOAWAY
MAX_CALL_ID: Final = 2**32 - 1  # the header's field; about 15 hours at 40 000 calls/s, then redial
KEY_BYTES: Final = 16  # idempotency keys, run ids and bulk tokens: 128 bits, as UUIDs have

# Calls in flight.
CALLS_PER_PEER: Final = 128  # HTTP/2 servers commonly allow 100 to 128 streams
BACKGROUND_CALLS_PER_PEER: Final = 32  # gossip and sync leave three quarters to people's calls
CALLS_PER_NODE: Final = 1_000  # one task and some kilobytes each: about 50 MB of busy handlers
HELD_REQUEST_BYTES: Final = 16 * MIB  # request bodies that running handlers of one peer may hold
MAX_TIMEOUT_MS: Final = 24 * 60 * 60 * 1_000  # a longer wait is a task, which survives restarts
RETRY_AFTER_MS: Final = 100  # what a refused caller is told: a few times a usual call

# Windows of streamed items; an item may start whenever its window is open, even by one byte.
CALL_WINDOW_BYTES: Final = 256 * KIB  # gRPC's and HTTP/2's practice for one stream
CONNECTION_WINDOW_BYTES: Final = 4 * MIB  # sixteen such streams
ITEM_OVERHEAD_BYTES: Final = 64  # what an empty item costs: without it they would be free to flood
MAX_WINDOW_BYTES: Final = 2**31 - 1  # HTTP/2's bound; more grants than this is an attack

# Sending.
COALESCE_BYTES: Final = 64 * KIB  # one write: past this size batching gains nothing
CLASS_WEIGHTS: Final = (8, 4, 1)  # control, interactive, background
QUANTUM_BYTES: Final = 8 * KIB  # times the weight: what a class sends in one round
QUEUE_SOFT_BYTES: Final = MIB  # new calls and items wait while more is queued
QUEUE_HARD_BYTES: Final = 4 * MIB  # only a peer that does not read makes this happen: closed
STUCK_SOFT_US: Final = 5 * SECOND_US  # nothing taken from the queue: background shed, calls refused
STUCK_HARD_US: Final = 30 * SECOND_US  # as before: the connection is closed

# Life signs.
PING_BYTES: Final = 8  # the PING's payload, which its PONG returns
PING_IDLE_US: Final = 15 * SECOND_US  # under the 30 s after which home routers forget a mapping
PING_BUSY_US: Final = SECOND_US  # while somebody waits a dead peer should be noticed soon
SILENCE_US: Final = 10 * SECOND_US  # a PING waits and not one byte came: half-open, closed
PONG_US: Final = 30 * SECOND_US  # bytes come, but never the PONG: broken, closed
OWN_STALL_US: Final = 2 * SECOND_US  # our own timer came this late: it was we who slept
HELLO_MS: Final = 5_000  # HELLO follows an authenticated connection at once
DRAIN_MS: Final = 5_000  # what running calls get before a connection closes in good order

# Bulk.
OFFERED_BYTES: Final = 1024 * MIB  # referenced, not copied, for one peer
OFFERS: Final = 256  # tickets that one peer may hold
MAX_TICKET_TTL_MS: Final = 60 * 60 * 1_000  # an hour at a slow uplink still moves a gigabyte
BULK_STREAMS_PER_PEER: Final = 16  # served at once; each holds one chunk
BULK_CHUNK_BYTES: Final = 256 * KIB  # a transport's write buffer
BULK_ATTEMPTS: Final = 4  # a stream lost more often without progress is given up
