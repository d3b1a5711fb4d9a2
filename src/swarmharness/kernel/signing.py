r"""A signature is Ed25519 over a purpose label and the bytes, never over bare bytes.

The label keeps one key's signatures apart: what was signed to prove a connection cannot be
shown as a receipt. Signed input is always `"swarmharness/<purpose>/v1\0" || payload`.
"""

from __future__ import annotations

from typing import Protocol, final

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError

from swarmharness.kernel.ids import NodeId

SEED_BYTES = 32
SIGNATURE_BYTES = 64


class Signer(Protocol):
    """Whoever holds a node's secret; cores and the simulator see only this."""

    @property
    def node_id(self) -> NodeId: ...

    def sign(self, purpose: str, payload: bytes) -> bytes: ...


def signed_preimage(purpose: str, payload: bytes) -> bytes:
    """The exact bytes a signature covers."""
    assert purpose, "a signature without a purpose could be replayed anywhere"
    assert "\0" not in purpose, "the zero byte ends the label"
    return b"swarmharness/" + purpose.encode() + b"/v1\0" + payload


@final
class KeyPair:
    """A real Ed25519 key; the seed leaves this object only for the TLS stack."""

    def __init__(self, seed: bytes) -> None:
        assert len(seed) == SEED_BYTES
        public, self._secret = crypto_sign_seed_keypair(seed)
        self.node_id = NodeId(public)
        self.seed = seed

    def __repr__(self) -> str:
        return "KeyPair(…)"

    def sign(self, purpose: str, payload: bytes) -> bytes:
        """64 bytes."""
        return self.sign_unlabelled(signed_preimage(purpose, payload))

    def sign_unlabelled(self, message: bytes) -> bytes:
        """Only for formats that others define (X.509), whose first byte cannot be our label's."""
        return crypto_sign(message, self._secret)[:SIGNATURE_BYTES]


def is_signed_by(node_id: NodeId, purpose: str, payload: bytes, signature: bytes) -> bool:
    """False for any bytes that are not this node's signature; never raises on bad input."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + signed_preimage(purpose, payload), node_id)
    except (CryptoError, ValueError):
        return False
    return True
