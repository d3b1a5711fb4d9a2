"""Errors of connections and remote calls."""

from __future__ import annotations

from swarmharness.kernel.errors import Blame, ExitCode, SwarmError


class BadAddress(SwarmError):
    """Text that is no address."""

    code = "network.address_malformed"
    blame = Blame.CALLER
    hint = "Take the address from `swarm status` on the other machine: tls://ID@HOST:PORT."
    http_status = 400
    exit_code = ExitCode.USAGE


class DialTimeout(SwarmError):
    """Nobody answered in time."""

    code = "network.dial_timeout"
    blame = Blame.WORLD
    hint = "Is the node up, and does a firewall let its port through?"
    elsewhere = True
    http_status = 504


class DialRefused(SwarmError):
    """The machine answers, but nothing listens on that port."""

    code = "network.dial_refused"
    blame = Blame.WORLD
    hint = "Is the node running there? `swarm status` on that machine prints its address."
    elsewhere = True
    http_status = 502


class Unreachable(SwarmError):
    """No way to that address from here."""

    code = "network.peer_unreachable"
    blame = Blame.WORLD
    hint = "Check the host name and this machine's network."
    elsewhere = True
    http_status = 502


class IdentityMismatch(SwarmError):
    """Somebody else answers at that address, or cannot prove to be the expected node."""

    code = "network.identity_mismatch"
    blame = Blame.PEER
    hint = "The address was reused or is intercepted: ask for a new one."
    elsewhere = True
    http_status = 502


class NetworkMismatch(SwarmError):
    """The other node belongs to another network."""

    code = "network.network_mismatch"
    blame = Blame.PEER
    hint = "Both nodes must be started for the same network."
    elsewhere = True
    http_status = 502


class VersionMismatch(SwarmError):
    """The two nodes share no protocol version."""

    code = "network.version_mismatch"
    blame = Blame.PEER
    hint = "Upgrade the older of the two nodes."
    elsewhere = True
    http_status = 502


class ProtocolViolation(SwarmError):
    """The peer broke the rules of the protocol; the connection is closed."""

    code = "network.protocol_violation"
    blame = Blame.PEER
    hint = "The other node is broken, hostile or incompatible."
    elsewhere = True
    http_status = 502


class ConnectionLost(SwarmError):
    """The connection ended before the answer."""

    code = "network.connection_lost"
    blame = Blame.WORLD
    hint = "The other node stopped or the network failed; try again or elsewhere."
    elsewhere = True
    http_status = 502


class StreamReset(SwarmError):
    """The other side abandoned this stream; `data["reset_code"]` says why."""

    code = "network.stream_reset"
    blame = Blame.PEER
    hint = "The other node gave up this transfer; try again or elsewhere."
    elsewhere = True
    http_status = 502


class LimitExceeded(SwarmError):
    """A named limit of this node's own was reached."""

    code = "network.limit_exceeded"
    blame = Blame.SELF
    hint = "Wait until running calls have ended, or close connections."
    elsewhere = True
    later = True
    http_status = 503
    exit_code = ExitCode.REFUSED


class PeerBusy(SwarmError):
    """The peer refuses more calls for now; `data["retry_after_ms"]` says how long."""

    code = "network.peer_busy"
    blame = Blame.WORLD
    hint = "Try again in a moment, or add nodes that offer the same."
    elsewhere = True
    later = True
    http_status = 429
    exit_code = ExitCode.REFUSED


class UnknownMethod(SwarmError):
    """The peer does not offer this remote method."""

    code = "network.method_unknown"
    blame = Blame.PEER
    hint = "The other node may run an older version."
    elsewhere = True
    http_status = 502


class MessageTooLarge(SwarmError):
    """A message over the limit of one call; larger things travel as bulk."""

    code = "network.message_too_large"
    blame = Blame.CALLER
    hint = "Send large content as a blob."
    http_status = 413
    exit_code = ExitCode.USAGE


class DeadlineExceeded(SwarmError):
    """The time that the caller gave ran out."""

    code = "network.deadline_exceeded"
    blame = Blame.WORLD
    hint = "Give the call more time, or try another node."
    http_status = 504
    exit_code = ExitCode.DEADLINE


class CallCancelled(SwarmError):
    """The caller withdrew the call."""

    code = "network.call_cancelled"
    blame = Blame.CALLER
    hint = "Nothing to do: the call was cancelled on request."
    http_status = 499
    exit_code = ExitCode.INTERRUPTED


class BulkUnknown(SwarmError):
    """The ticket names no content that the peer still offers: spent, expired, or never known."""

    code = "network.bulk_unknown"
    blame = Blame.WORLD
    hint = "Ask for the content again; a ticket works once and for a limited time."
    elsewhere = True
    http_status = 410


class BulkCorrupt(SwarmError):
    """The content that arrived is not the one that the ticket promised."""

    code = "network.bulk_corrupt"
    blame = Blame.PEER
    hint = "The other node is broken or lies: take the content from another."
    elsewhere = True
    http_status = 502
