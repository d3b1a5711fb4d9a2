"""A frame is a length and a msgpack map: the unit in which host and guest talk.

Theory of operation. Four bytes of length, big-endian, then one map with string keys whose `t`
names its kind. JSON travels as bytes under `d`. What is longer than a frame may be travels in
`piece` frames before the frame that it belongs to: the receiver joins them in front of that
frame's own `d`. So short messages, nearly all there are, cost exactly one frame.

This side trusts the host. The host does not trust this side and has its own, strict reader.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec

MAX_FRAME: Final = 4 * 1024 * 1024  # the host kills a sandbox that announces more
PIECE: Final = 1024 * 1024  # well under a frame, large enough that its cost does not count
_LENGTH: Final = struct.Struct(">I")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


def encode(frame: dict[str, Any]) -> bytes:
    """Length and map."""
    body = _encoder.encode(frame)
    return _LENGTH.pack(len(body)) + body


def encode_with_pieces(frame: dict[str, Any], content: bytes) -> bytes:
    """The frame with `content` as its `d`, preceded by as many pieces as it needs."""
    parts: list[bytes] = []
    start = 0
    while len(content) - start > PIECE:
        parts.append(encode({"t": "piece", "d": content[start : start + PIECE]}))
        start += PIECE
    parts.append(encode({**frame, "d": content[start:] if start else content}))
    return b"".join(parts)


class FrameBuffer:
    """Received bytes, given back frame by frame."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def next(self) -> dict[str, Any] | None:
        """None: more bytes are needed."""
        if len(self._bytes) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._bytes)
        end = _LENGTH.size + length
        if len(self._bytes) < end:
            return None
        frame: dict[str, Any] = _decoder.decode(bytes(self._bytes[_LENGTH.size : end]))
        del self._bytes[:end]
        return frame
