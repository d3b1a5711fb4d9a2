"""A frame is the smallest thing on a framed stream: a header of 12 bytes and a payload.

Theory of operation. The header is big-endian: payload length u32, type u8, flags u8, zero u16,
call u32 (the dialer's calls are odd, the acceptor's even, 0 is the connection itself). A frame
has at most 64 KiB, so an urgent one never waits long. A message that needs several frames sets
MORE on all but the last. Messages of one class (interactive or background) do not interleave:
a receiver never assembles more than one of each class, whatever the peer sends.

`FrameReader` judges a header as soon as it is there, before its payload has arrived. It costs
one copy per frame however finely the bytes are cut: a peer that drips single bytes buys nothing.
"""

from __future__ import annotations

import struct
from typing import Final, final

from swarmharness.network.errors import ProtocolViolation
from swarmharness.network.rpc.limits import MAX_FRAME_BYTES

HEADER: Final = struct.Struct(">IBBHI")
HEADER_BYTES: Final = HEADER.size
MAX_PAYLOAD_BYTES: Final = MAX_FRAME_BYTES - HEADER_BYTES

HELLO: Final = 0
REQUEST: Final = 1
RESPONSE: Final = 2
DATA: Final = 3
CANCEL: Final = 4
WINDOW: Final = 5
PING: Final = 6
PONG: Final = 7
ERROR: Final = 8
GOAWAY: Final = 9
OPEN_BULK: Final = 10
LAST_TYPE: Final = OPEN_BULK
FIRST_SKIPPED_TYPE: Final = 128
"""Types from here on are extensions that an older node may ignore."""

END: Final = 1
"""The sender's last message in this call."""
MORE: Final = 2
"""The message goes on in the next frame of this class."""
BACKGROUND: Final = 4
"""The call is of the background class."""
STREAMED: Final = 8
"""REQUEST only: items may travel both ways, within windows."""
_ALL_FLAGS: Final = END | MORE | BACKGROUND | STREAMED

# Which flags each type may carry: anything else is a violation, so that they can gain meaning.
FLAGS_OF: Final = {
    REQUEST: _ALL_FLAGS,
    RESPONSE: END | MORE | BACKGROUND,
    DATA: END | MORE | BACKGROUND,
    CANCEL: BACKGROUND,
    ERROR: BACKGROUND,
}

Frame = tuple[int, int, int, bytes]
"""Type, flags, call, payload."""


def encode_frame(kind: int, flags: int, call: int, payload: bytes) -> bytes:
    """One frame; `payload` fits."""
    return HEADER.pack(len(payload), kind, flags, 0, call) + payload


def encode_message(
    kind: int, flags: int, call: int, payload: bytes, max_payload: int
) -> list[bytes]:
    """As many frames as the message needs; END and STREAMED stand on the last one."""
    frames = []
    last = (len(payload) - 1) // max_payload * max_payload if payload else 0
    for start in range(0, last, max_payload):
        part = payload[start : start + max_payload]
        frames.append(encode_frame(kind, flags & BACKGROUND | MORE, call, part))
    frames.append(encode_frame(kind, flags, call, payload[last:]))
    return frames


@final
class FrameReader:
    """Bytes in, whole frames out; `broken` is set by the first header that breaks the rules."""

    def __init__(self) -> None:
        self.broken: ProtocolViolation | None = None
        self._tail = bytearray()
        self._needed_bytes = HEADER_BYTES

    def feed(self, data: bytes) -> list[Frame]:
        """The frames before a broken header are still returned."""
        if self._tail:
            self._tail += data
            if len(self._tail) < self._needed_bytes:
                return []
            data = bytes(self._tail)
            self._tail.clear()
        frames: list[Frame] = []
        end = len(data)
        at = 0
        needed = HEADER_BYTES
        while end - at >= HEADER_BYTES and self.broken is None:
            length, kind, flags, zero, call = HEADER.unpack_from(data, at)
            if length > MAX_PAYLOAD_BYTES or zero or (flags and flags & ~FLAGS_OF.get(kind, 0)):
                self.broken = _header_fault(length, kind, flags, zero)
                if self.broken is not None:
                    break
            elif LAST_TYPE < kind < FIRST_SKIPPED_TYPE:
                self.broken = ProtocolViolation(f"Frame type {kind} does not exist.")
                break
            needed = HEADER_BYTES + length
            if at + needed > end:
                break
            if kind <= LAST_TYPE:
                frames.append((kind, flags, call, data[at + HEADER_BYTES : at + needed]))
            at += needed
            needed = HEADER_BYTES
        if at < end and self.broken is None:
            self._tail += data[at:]
            self._needed_bytes = needed
        return frames


def _header_fault(length: int, kind: int, flags: int, zero: int) -> ProtocolViolation | None:
    if length > MAX_PAYLOAD_BYTES:
        return ProtocolViolation(
            f"A frame of {length} bytes was announced; at most {MAX_PAYLOAD_BYTES} are allowed."
        )
    if kind >= FIRST_SKIPPED_TYPE:
        return None
    if kind > LAST_TYPE:
        return ProtocolViolation(f"Frame type {kind} does not exist.")
    if zero:
        return ProtocolViolation("The reserved bytes of a frame header are not zero.")
    return ProtocolViolation(f"A frame of type {kind} may not carry the flags {flags}.")
