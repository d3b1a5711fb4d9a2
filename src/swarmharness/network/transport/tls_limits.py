"""The limits of the `tls` transport in one place; tests hand in smaller ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from swarmharness.network.receive_window import STREAMS_MAX


@final
@dataclass(frozen=True, slots=True)
class TlsLimits:
    """Counts, sizes and patience of one node."""

    handshake_ms: int = 5_000
    """From TCP accept to the checked proof; two orders above a slow path's round trips."""
    handshakes_pending: int = 256
    """All peers together: strangers may cost this much memory and no more."""
    handshakes_per_ip: int = 16
    """One stranger's share of them; streams promised to a peer at that address come on top."""
    handshakes_per_ip_max: int = 128
    """With those promises: half of all, so that one address never shuts the others out."""
    handshake_bytes: int = 16 * 1024
    """Raw bytes before the proof: a large ClientHello with post-quantum keys has about 2 KiB."""
    connections: int = 256
    """A full mesh of a large office."""
    streams: int = STREAMS_MAX
    """Of one connection, both ways together."""
    attaching: int = 16
    """Channels that one connection sets up at once; equals the acceptor's share per address."""
    attach_ms: int = 10_000
    """How long an opened stream waits for its channel; the total time of a dial."""
    stagger_ms: int = 250
    """Head start of each dialled address over the next (RFC 8305)."""
    write_stall_ms: int = 30_000
    """Without progress of waiting bytes for this long the peer counts as gone."""
    silence_ms: int = 20_000
    """Sent but unacknowledged for this long, the kernel gives the path up."""
    linger_ms: int = 1_000
    """How long a closed channel waits for the peer to take the last words."""


SEND_HIGH_BYTES = 256 * 1024  # waiting in this process; about two socket buffers
SEND_LOW_BYTES = 64 * 1024  # one socket buffer: the writer is woken before it runs dry
SEND_LIMIT_BYTES = 2 * 1024 * 1024
"""Control records are not held back by flow control; a peer that provokes this many and reads
none is cut off."""
