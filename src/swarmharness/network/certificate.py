"""A node's certificate is one fixed template around its public key: nothing in it is chosen.

Theory of operation. TLS wants a certificate, but a node's only claim is its key. So every byte
of the DER form is fixed except the 32 key bytes and the self-signature, and a dialer that
knows which node it wants can rebuild the signed part exactly and compare it byte by byte.

Searching for the key inside a parsed certificate would be fooled by a foreign certificate that
carries the wanted key in an extension; comparing the whole signed part is not. That the peer
holds the private key is not proved here: TLS does that with CertificateVerify, over the key in
the very certificate that was compared.
"""

from __future__ import annotations

import base64

from swarmharness.kernel.ids import NODE_ID_BYTES, NodeId
from swarmharness.kernel.signing import SEED_BYTES, SIGNATURE_BYTES, KeyPair

_ED25519 = bytes.fromhex("300506032b6570")  # AlgorithmIdentifier 1.3.101.112
_NAME = bytes.fromhex("3010310e300c0603550403") + b"\x0c\x05swarm"  # CN=swarm
_VALIDITY = b"\x30\x20\x17\x0d200101000000Z\x18\x0f99991231235959Z"
_BEFORE_KEY = (
    bytes.fromhex("308181")  # TBSCertificate, 129 bytes follow
    + bytes.fromhex("a003020102")  # version 3
    + bytes.fromhex("020101")  # serial number 1
    + _ED25519
    + _NAME
    + _VALIDITY
    + _NAME
    + bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo up to the key
)
_CERTIFICATE_HEAD = bytes.fromhex("3081ce")
_BEFORE_SIGNATURE = _ED25519 + bytes.fromhex("034100")
_PRIVATE_KEY_HEAD = bytes.fromhex("302e020100300506032b657004220420")  # PKCS #8

CERTIFICATE_BYTES = (
    len(_CERTIFICATE_HEAD)
    + len(_BEFORE_KEY)
    + NODE_ID_BYTES
    + len(_BEFORE_SIGNATURE)
    + SIGNATURE_BYTES
)
"""Always 209."""


def signed_part(node_id: NodeId) -> bytes:
    """What the self-signature covers; begins with 0x30, which no label of ours does."""
    assert len(node_id) == NODE_ID_BYTES
    return _BEFORE_KEY + node_id


def certificate_of(key: KeyPair) -> bytes:
    """The DER form."""
    body = signed_part(key.node_id)
    return _CERTIFICATE_HEAD + body + _BEFORE_SIGNATURE + key.sign_unlabelled(body)


def is_certificate_of(node_id: NodeId, der: bytes | None) -> bool:
    """Whether the bytes are the template around exactly this key; the signature is TLS's job."""
    expected = _CERTIFICATE_HEAD + signed_part(node_id) + _BEFORE_SIGNATURE
    return der is not None and len(der) == CERTIFICATE_BYTES and der.startswith(expected)


def node_id_in(der: bytes | None) -> NodeId | None:
    """Whose template this is; only to name the impostor in an error, never to trust it."""
    if der is None or len(der) != CERTIFICATE_BYTES:
        return None
    start = len(_CERTIFICATE_HEAD) + len(_BEFORE_KEY)
    node_id = NodeId(der[start : start + NODE_ID_BYTES])
    return node_id if is_certificate_of(node_id, der) else None


def key_and_certificate_pem(key: KeyPair) -> bytes:
    """Both in the one text form that TLS stacks load."""
    assert len(key.seed) == SEED_BYTES
    private = _pem("PRIVATE KEY", _PRIVATE_KEY_HEAD + key.seed)
    return private + _pem("CERTIFICATE", certificate_of(key))


def _pem(label: str, der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return f"-----BEGIN {label}-----\n".encode() + body + f"-----END {label}-----\n".encode()
