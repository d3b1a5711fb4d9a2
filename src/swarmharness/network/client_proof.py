"""The client proof: how a dialer shows the acceptor who it is, inside an encrypted channel.

Theory of operation. The acceptor proved its id with its certificate; it cannot ask a dialer
that it does not know for one. So it sends a fresh nonce, and the dialer signs network,
acceptor, itself and the nonce, all of fixed length. The acceptor's id in the signature comes
from the certificate that the dialer verified, never from a message: a node in the middle that
relays the proof to somebody else holds a signature that names the wrong acceptor. The nonce
dies with its channel, acceptors never sign this label, and nobody accepts its own id, so a
proof can be neither replayed nor reflected.

The network id also travels in clear so that the acceptor can tell a stranger's network from a
false signature and say so; the signature covers its own copy.
"""

from __future__ import annotations

from typing import NamedTuple

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import NODE_ID_BYTES, NetworkId, NodeId, node_id_short
from swarmharness.kernel.signing import SIGNATURE_BYTES, Signer, is_signed_by
from swarmharness.network.errors import (
    ConnectionLost,
    IdentityMismatch,
    NetworkMismatch,
    PeerBusy,
    ProtocolViolation,
    VersionMismatch,
)
from swarmharness.network.records import TOKEN_BYTES

VERSION = 1
NONCE_BYTES = 32
PURPOSE = "tls-client-auth"
NO_TOKEN = b"\0" * TOKEN_BYTES
"""This channel starts a connection of its own."""

REFUSED: dict[int, type[SwarmError]] = {
    64: IdentityMismatch,
    65: NetworkMismatch,
    66: VersionMismatch,
    67: PeerBusy,
    68: ConnectionLost,
    69: ProtocolViolation,
}
"""Close codes of an acceptor that does not let the dialer in, and what the dialer raises."""
_CODE_OF = {kind: code for code, kind in REFUSED.items()}


class Challenge(NamedTuple):
    """The acceptor's first words."""

    version: int
    nonce: bytes

    def encode(self) -> bytes:
        return bytes([self.version]) + self.nonce

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Challenge:
        return cls(payload[0], bytes(payload[1:]))


class Auth(NamedTuple):
    """The dialer's answer; `token` binds the channel to a connection that already exists."""

    version: int
    client_id: NodeId
    network_id: NetworkId
    token: bytes
    signature: bytes

    def encode(self) -> bytes:
        return b"".join(
            (bytes([self.version]), self.client_id, self.network_id, self.token, self.signature)
        )

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Auth:
        raw = bytes(payload)
        network = 1 + NODE_ID_BYTES
        token = network + NODE_ID_BYTES
        signature = token + TOKEN_BYTES
        assert len(raw) == signature + SIGNATURE_BYTES, "the record layer fixes the length"
        return cls(
            raw[0],
            NodeId(raw[1:network]),
            NetworkId(raw[network:token]),
            raw[token:signature],
            raw[signature:],
        )


def proof_payload(
    network_id: NetworkId, server_id: NodeId, client_id: NodeId, nonce: bytes
) -> bytes:
    """What is signed, after the label; four parts of 32 bytes."""
    assert len(network_id) == len(server_id) == len(client_id) == len(nonce) == NONCE_BYTES
    return network_id + server_id + client_id + nonce


def prove(
    key: Signer, network_id: NetworkId, server_id: NodeId, nonce: bytes, token: bytes = NO_TOKEN
) -> Auth:
    """`server_id` must be the id whose certificate was verified on this very channel."""
    payload = proof_payload(network_id, server_id, key.node_id, nonce)
    return Auth(VERSION, key.node_id, network_id, token, key.sign(PURPOSE, payload))


def check_proof(auth: Auth, network_id: NetworkId, server_id: NodeId, nonce: bytes) -> None:
    """Raises the refusal, whose sentence the dialer will read; cheap checks come first."""
    if auth.version != VERSION:
        raise VersionMismatch(
            f"{node_id_short(server_id)} speaks version {VERSION} of the handshake, "
            f"the dialer {auth.version}."
        )
    if auth.network_id != network_id:
        raise NetworkMismatch(
            f"{node_id_short(server_id)} is in network {network_id.hex()[:8]}, "
            f"the dialer in {auth.network_id.hex()[:8]}."
        )
    if auth.client_id == server_id:
        raise IdentityMismatch(f"The dialer claims to be {node_id_short(server_id)} itself.")
    payload = proof_payload(network_id, server_id, auth.client_id, nonce)
    if not is_signed_by(auth.client_id, PURPOSE, payload, auth.signature):
        raise IdentityMismatch(
            f"The dialer did not prove to {node_id_short(server_id)} "
            f"that it is {node_id_short(auth.client_id)}."
        )


def refusal_code(error: SwarmError) -> int:
    """The close code by which the dialer recognises this error."""
    return _CODE_OF.get(type(error), _CODE_OF[ProtocolViolation])


def refusal(code: int, text: str) -> SwarmError:
    """What the dialer raises for an acceptor's refusal."""
    return REFUSED.get(code, ConnectionLost)(text or f"Refused with code {code}.")
