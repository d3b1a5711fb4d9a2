"""A record is the unit inside one TLS channel: what a stream, or the connection, says next.

Theory of operation. TLS over TCP gives one ordered byte flow that can neither be half closed
nor carry a reset code, and it must stay readable while its reader pauses, or a close could
never arrive. So a stream is cut into records: one byte of kind, three of length, the payload.
The receiver always reads the socket; the sender spends credit that the receiver granted.

Bad lengths are refused at the header, before any payload is held: the reader keeps at most one
incomplete control record, and data is passed on in pieces as it arrives.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple, final

from swarmharness.network.errors import ProtocolViolation

HEADER_BYTES = 4
RECORD_BYTES_MAX = 64 * 1024
"""Header included: four full TLS records, a good system call's worth."""
DATA_BYTES_MAX = RECORD_BYTES_MAX - HEADER_BYTES
CLOSE_TEXT_BYTES_MAX = 256  # one sentence
TOKEN_BYTES = 16
_KIND_SHIFT = 24
_LENGTH_MASK = (1 << _KIND_SHIFT) - 1
_CLOSE_CODE_MAX = 0xFFFF
_U32_MAX = 0xFFFF_FFFF


class RecordKind(IntEnum):
    """One byte on the wire; numbers are never reused."""

    CHALLENGE = 1
    """Acceptor, first of all: version and nonce."""
    AUTH = 2
    """Dialer: who it is, and the proof."""
    WELCOME = 3
    """Acceptor: the proof holds; from here on streams may flow."""
    OPEN = 4
    """Dialer, on the first channel: its one stream begins."""
    DATA = 5
    FIN = 6
    RESET = 7
    STOP = 8
    CREDIT = 9
    ASK = 10
    """Dialer: give me a token, I want to attach another channel."""
    ATTACH = 11
    """Acceptor: here is a token; request 0 means that the acceptor opens the stream."""
    ABANDON = 12
    """Dialer: I could not attach with this token."""
    CLOSE = 13
    """Either: the whole connection ends, with a code and a sentence."""


_AUTH_BYTES = 1 + 32 + 32 + TOKEN_BYTES + 64
_LENGTHS: dict[int, tuple[int, int]] = {
    RecordKind.CHALLENGE: (33, 33),
    RecordKind.AUTH: (_AUTH_BYTES, _AUTH_BYTES),
    RecordKind.WELCOME: (0, 0),
    RecordKind.OPEN: (0, 0),
    RecordKind.DATA: (1, DATA_BYTES_MAX),
    RecordKind.FIN: (0, 0),
    RecordKind.RESET: (4, 4),
    RecordKind.STOP: (4, 4),
    RecordKind.CREDIT: (4, 4),
    RecordKind.ASK: (4, 4),
    RecordKind.ATTACH: (4 + TOKEN_BYTES, 4 + TOKEN_BYTES),
    RecordKind.ABANDON: (TOKEN_BYTES, TOKEN_BYTES),
    RecordKind.CLOSE: (2, 2 + CLOSE_TEXT_BYTES_MAX),
}
_HEADER = struct.Struct(">I")
_DATA_WORD = RecordKind.DATA << _KIND_SHIFT
_CLOSE_CODE = struct.Struct(">H")


class Record(NamedTuple):
    """A complete control record, or a piece of a data record; valid until the next `feed`."""

    kind: int
    payload: memoryview


def record(kind: RecordKind, payload: bytes = b"") -> bytes:
    """A whole record, ready to send."""
    low, high = _LENGTHS[kind]
    assert low <= len(payload) <= high, f"{kind.name} of {len(payload)} bytes"
    return _HEADER.pack(kind << _KIND_SHIFT | len(payload)) + payload


def data_record(payload: bytes | memoryview) -> bytes:
    """The hot case, without the checks that the caller has already made."""
    return b"".join((_HEADER.pack(_DATA_WORD | len(payload)), payload))


def number_record(kind: RecordKind, number: int) -> bytes:
    """A record whose payload is one unsigned 32-bit number."""
    return record(kind, _HEADER.pack(min(number, _U32_MAX)))


def number_in(payload: bytes | memoryview) -> int:
    """The number of such a record; the length was checked at the header."""
    (number,) = _HEADER.unpack_from(payload)
    return int(number)


def attach_record(request: int, token: bytes) -> bytes:
    """A token for one more channel."""
    return record(RecordKind.ATTACH, _HEADER.pack(request) + token)


def close_record(code: int, text: str) -> bytes:
    """The sentence is cut to its limit without breaking a character."""
    assert 0 <= code <= _CLOSE_CODE_MAX
    cut = text.encode()[:CLOSE_TEXT_BYTES_MAX].decode(errors="ignore").encode()
    return record(RecordKind.CLOSE, _CLOSE_CODE.pack(code) + cut)


def close_in(payload: bytes | memoryview) -> tuple[int, str]:
    """Code and sentence; what could steer a terminal is replaced."""
    (code,) = _CLOSE_CODE.unpack_from(payload)
    text = bytes(payload[_CLOSE_CODE.size :]).decode(errors="replace")
    return int(code), "".join(c if c.isprintable() else "?" for c in text)


@final
class RecordReader:
    """Bytes in, records out, under any cutting of the bytes."""

    def __init__(self) -> None:
        self._data_left = 0
        self._tail = b""

    def feed(self, data: memoryview) -> list[Record]:
        """Raises `ProtocolViolation` at the first impossible header."""
        if self._tail:
            data = memoryview(self._tail + data)
            self._tail = b""
        records: list[Record] = []
        at, end = 0, len(data)
        while at < end:
            if self._data_left:
                stop = min(end, at + self._data_left)
                records.append(Record(RecordKind.DATA, data[at:stop]))
                self._data_left -= stop - at
                at = stop
                continue
            body = at + HEADER_BYTES
            if body > end:
                self._tail = bytes(data[at:])
                break
            kind, length = _checked_header(data, at)
            if kind == RecordKind.DATA:
                self._data_left = length
                at = body
                continue
            if body + length > end:
                self._tail = bytes(data[at:])
                break
            records.append(Record(kind, data[body : body + length]))
            at = body + length
        return records


def _checked_header(data: memoryview, at: int) -> tuple[int, int]:
    (word,) = _HEADER.unpack_from(data, at)
    kind, length = word >> _KIND_SHIFT, word & _LENGTH_MASK
    bounds = _LENGTHS.get(kind)
    if bounds is None:
        raise ProtocolViolation(f"The peer sent a record of the unknown kind {kind}.")
    if not bounds[0] <= length <= bounds[1]:
        raise ProtocolViolation(
            f"The peer sent a {RecordKind(kind).name} record of {length} bytes; "
            f"{bounds[0]} to {bounds[1]} are allowed."
        )
    return kind, length
