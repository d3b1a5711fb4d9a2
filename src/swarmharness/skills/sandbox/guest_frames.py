"""Guest frames are what a sandbox sends, read as if every byte were chosen by an enemy.

Theory of operation. The length is checked before anything is kept for it. Every frame is decoded
straight into a struct of one of the known kinds: unknown kinds, unknown keys, extension types,
wrong types and nesting that no kind has are refused before they are built. JSON inside stays
bytes: `is_json` walks over it without making values. Any breach is `SandboxProtocolBroken`, and
whoever meets it kills the sandbox.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, final

import msgspec

from swarmharness.skills.errors import SandboxProtocolBroken

MAX_FRAME: Final = 4 * 1024 * 1024  # guests cut longer content into pieces of 1 MiB
MAX_CONTROL_FRAME: Final = 1024 * 1024 + 1024  # a description has at most 1 MiB
MESSAGE_LIMIT: Final = 2000  # characters of an exception's text
NOTE_LIMIT: Final = 200  # characters of a progress note
DETAIL_LIMIT: Final = 16  # validation faults; more help nobody
_LENGTH: Final = struct.Struct(">I")

F = TypeVar("F")
Text = Annotated[str, msgspec.Meta(max_length=MESSAGE_LIMIT)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Frame(msgspec.Struct, frozen=True, tag_field="t", forbid_unknown_fields=True):
    pass


@final
class PieceFrame(_Frame, frozen=True, tag="piece"):
    """The beginning of the content of a frame to come."""

    d: bytes


@final
class StartedFrame(_Frame, frozen=True, tag="started"):
    """The input was valid and the handler runs."""

    id: str


@final
class ChunkFrame(_Frame, frozen=True, tag="chunk"):
    """`d` is JSON up to `cut` and text after it; `cut` 0: the text is all."""

    n: Count
    cut: Count
    d: bytes


@final
class ProgressFrame(_Frame, frozen=True, tag="progress"):
    """What the handler says about itself."""

    p: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    note: Annotated[str, msgspec.Meta(max_length=NOTE_LIMIT)]


@final
class ArtifactFrame(_Frame, frozen=True, tag="artifact"):
    """A file; its name is only a name."""

    name: str
    d: bytes


@final
class ResultFrame(_Frame, frozen=True, tag="result"):
    """The output of a call that returned."""

    d: bytes


@final
class EndFrame(_Frame, frozen=True, tag="end"):
    """The end of a stream of `n` chunks."""

    n: Count


@final
class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One place where the input does not fit its schema."""

    loc: Annotated[list[int | Text], msgspec.Meta(max_length=64)]
    msg: Text
    type: Text


@final
class ErrorFrame(_Frame, frozen=True, tag="error"):
    """The call failed inside."""

    code: Literal["invalid_input", "handler_error", "bad_output", "memory", "cancelled"]
    message: Text
    detail: Annotated[list[Fault], msgspec.Meta(max_length=DETAIL_LIMIT)] = []


CallFrame = (
    PieceFrame
    | StartedFrame
    | ChunkFrame
    | ProgressFrame
    | ArtifactFrame
    | ResultFrame
    | EndFrame
    | ErrorFrame
)


@final
class BootedFrame(_Frame, frozen=True, tag="booted"):
    """Confined; the import follows."""


@final
class ReadyFrame(_Frame, frozen=True, tag="ready"):
    """Imported; calls may come."""


@final
class ThreadsFrame(_Frame, frozen=True, tag="threads"):
    """The import started threads: this skill cannot be forked."""

    count: Count


@final
class FailedFrame(_Frame, frozen=True, tag="failed"):
    """The import failed."""

    reason: Text


@final
class DescribedFrame(_Frame, frozen=True, tag="described"):
    """The skill's description, as JSON."""

    d: bytes


@final
class DoneFrame(_Frame, frozen=True, tag="done"):
    """A call has left nothing behind; or not, when it is not clean."""

    id: str
    signal: Count
    status: Count
    clean: bool


ControlFrame = BootedFrame | ReadyFrame | ThreadsFrame | FailedFrame | DescribedFrame | DoneFrame

CALL_FRAMES: Final[msgspec.msgpack.Decoder[CallFrame]] = msgspec.msgpack.Decoder(CallFrame)
CONTROL_FRAMES: Final[msgspec.msgpack.Decoder[ControlFrame]] = msgspec.msgpack.Decoder(ControlFrame)


class GuestFrameReader(Generic[F]):
    """Received bytes, given back frame by frame."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[F], max_frame: int = MAX_FRAME) -> None:
        self._decoder = decoder
        self._max_frame = max_frame
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def next(self) -> F | None:
        """None: more bytes are needed."""
        received = self._bytes
        if len(received) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(received)
        if length > self._max_frame:
            raise SandboxProtocolBroken(f"The sandbox announced a frame of {length} bytes.")
        end = _LENGTH.size + length
        if len(received) < end:
            return None
        try:
            frame = self._decoder.decode(received[_LENGTH.size : end])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SandboxProtocolBroken(f"The sandbox sent a malformed frame: {error}") from None
        del received[:end]
        return frame


def encode_frame(frame: dict[str, Any]) -> bytes:
    """For what the host sends."""
    body = msgspec.msgpack.encode(frame)
    return _LENGTH.pack(len(body)) + body


PIECE: Final = 1024 * 1024


def encode_call(frame: dict[str, Any], content: bytes) -> bytes:
    """The frame that opens a call, its input cut into pieces where it is long."""
    parts: list[bytes] = []
    start = 0
    while len(content) - start > PIECE:
        parts.append(encode_frame({"t": "piece", "d": content[start : start + PIECE]}))
        start += PIECE
    parts.append(encode_frame({**frame, "d": content[start:] if start else content}))
    return b"".join(parts)
