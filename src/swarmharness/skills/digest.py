"""A digest names the content of a skill folder, so that nodes can tell whether they run the same.

Theory of operation. Four digests together decide whether two nodes' results may be compared:
the folder's own files, the support files beside it, the environment (interpreter and installed
distributions) and the schemas. The first two are computed over a *listing*, a flat list of
entries; every field has a fixed width or a length in front, so no two listings share an
encoding. Names that are not part of a skill never reach a listing (`folder.is_hashed`).

Symbolic links count with their text and are not followed: what they point at is not part of
the folder, and a digest must not depend on the machine around it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import IntEnum
from typing import NewType, final

import msgspec

Digest = NewType("Digest", bytes)
"""32 bytes."""


class Mode(IntEnum):
    """What kind of entry; file permissions beyond the executable bit are the host's affair."""

    PLAIN = 0
    EXECUTABLE = 1
    LINK = 2


@final
class FileEntry(msgspec.Struct, frozen=True):
    """One file or link: POSIX path relative to the folder, and what it holds.

    `sha256` covers the file's bytes, or the link's text.
    """

    path: str
    mode: Mode
    size: int
    sha256: bytes


def content_digest(listing: Iterable[FileEntry]) -> Digest:
    """The order of the listing does not matter; a path given twice does not happen."""
    state = hashlib.sha256(b"swarm/skill/1")
    encoded = sorted((_path_bytes(entry.path), entry) for entry in listing)
    for number, (path, entry) in enumerate(encoded):
        assert number == 0 or encoded[number - 1][0] != path, f"{entry.path} is listed twice"
        assert len(entry.sha256) == hashlib.sha256().digest_size
        state.update(len(path).to_bytes(4, "big"))
        state.update(path)
        state.update(entry.mode.to_bytes(1, "big"))
        state.update(entry.size.to_bytes(8, "big"))
        state.update(entry.sha256)
    return Digest(state.digest())


def env_digest(interpreter: str, distributions: Iterable[str]) -> Digest:
    """`interpreter` is implementation and full version; distributions are `name==version`."""
    state = hashlib.sha256(b"swarm/environment/1\0")
    for text in (interpreter, *sorted(set(distributions))):
        raw = text.encode()
        state.update(len(raw).to_bytes(4, "big") + raw)
    return Digest(state.digest())


def replica_digest(content: bytes, support: bytes, environment: bytes, schema: bytes) -> Digest:
    """The one digest of an advert: replicas compare results only if it is equal."""
    parts = (content, support, environment, schema)
    assert all(len(part) == hashlib.sha256().digest_size for part in parts)
    return Digest(hashlib.sha256(b"swarm/replica/1\0" + b"".join(parts)).digest())


def _path_bytes(path: str) -> bytes:
    """The bytes the file system holds, also where they are not UTF-8."""
    return path.encode("utf-8", "surrogateescape")
