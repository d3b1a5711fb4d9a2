"""A node id is the node's Ed25519 public key; people see it in two self-checking forms.

The long form (56 characters of lower-case base32) is the key and three bytes of its SHA-256:
a single mistyped letter is noticed. The short form, `k7f2-m2qa-x3`, is forty bits of the key
and ten bits of checksum: enough to recognise a node on a screen, never enough to trust one.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NewType

from swarmharness.kernel.errors import BadIdentifier

NodeId = NewType("NodeId", bytes)
"""32 bytes: the public key."""

NetworkId = NewType("NetworkId", bytes)
"""32 bytes: SHA-256 over the label and the network's founding body."""

NODE_ID_BYTES = 32
LONG_FORM_LENGTH = 56
SHORT_FORM_LENGTH = 12
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_CHECKSUM_BYTES = 3
_SHORT_KEY_BYTES = 5

DEVELOPMENT_NETWORK = NetworkId(hashlib.sha256(b"swarm/net/1\0development").digest())
"""The one network of nodes that were told no other, until networks can be founded."""


def node_id_text(node_id: NodeId) -> str:
    """The long form: everything another node needs to recognise this one."""
    raw = bytes(node_id) + hashlib.sha256(node_id).digest()[:_CHECKSUM_BYTES]
    return base64.b32encode(raw).decode().lower()


def node_id_short(node_id: NodeId) -> str:
    """The short form, for people's eyes only."""
    prefix = node_id[:_SHORT_KEY_BYTES]
    text = base64.b32encode(prefix + hashlib.sha256(prefix).digest()[:5]).decode().lower()
    return f"{text[:4]}-{text[4:8]}-{text[8:10]}"


def parse_node_id(text: str) -> NodeId:
    """The long form back to the key; `BadIdentifier` names what is wrong with the text."""
    if len(text) != LONG_FORM_LENGTH:
        raise BadIdentifier(
            f"A node id has {LONG_FORM_LENGTH} characters; this text has {len(text)}."
        )
    # Not left to the decoder: it takes padding, and letters whose capital is a base32 letter.
    if not text.isascii() or not _LETTERS.issuperset(text.lower()):
        raise BadIdentifier("A node id has only the letters a to z and the digits 2 to 7.")
    raw = base64.b32decode(text.upper())
    node_id = NodeId(raw[:NODE_ID_BYTES])
    if hashlib.sha256(node_id).digest()[:_CHECKSUM_BYTES] != raw[NODE_ID_BYTES:]:
        raise BadIdentifier("The checksum of this node id does not match: a letter is wrong.")
    return node_id


def is_short_form(text: str) -> bool:
    """Whether the text is a well-formed short form with a matching checksum."""
    letters = text.replace("-", "")
    if len(text) != SHORT_FORM_LENGTH or len(letters) != 10:  # noqa: PLR2004  8 + 2 letters
        return False
    try:
        prefix = base64.b32decode(letters[:8].upper())
    except ValueError:
        return False
    return node_id_short(NodeId(prefix.ljust(NODE_ID_BYTES, b"\0"))) == text
