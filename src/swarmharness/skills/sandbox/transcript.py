"""A transcript is what one call may send: in which order, and how much of it.

Theory of operation. It turns guest frames into call events and refuses what no honest guest
sends: another call's id, chunks out of order, a result after chunks, anything after the end. It
also counts: output over the limit is the skill's fault (`OutputTooLarge`), not a breach. What it
passes on is safe to embed: JSON was walked over, text is UTF-8, names are only names.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from typing import Final, assert_never, final

import msgspec

from swarmharness.kernel.errors import SwarmError
from swarmharness.skills.call import Artifact, Chunk, JsonBytes, Progress, Started, is_json
from swarmharness.skills.errors import (
    BadOutput,
    HandlerFailed,
    InvalidInput,
    OutputTooLarge,
    ResourceExceeded,
    RunCancelled,
    SandboxProtocolBroken,
)
from swarmharness.skills.sandbox.guest_frames import (
    PIECE,
    ArtifactFrame,
    CallFrame,
    ChunkFrame,
    EndFrame,
    ErrorFrame,
    PieceFrame,
    ProgressFrame,
    ResultFrame,
    StartedFrame,
)

MAX_ARTIFACTS: Final = 64  # a handful of images or tables, not a directory tree
MAX_ARTIFACT_BYTES: Final = 64 * 1024 * 1024  # together; as much as the scratch directory holds
MAX_PROGRESS: Final = 4096  # ten a second for the longest call; the guest leaves out more
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_media_types: Final = mimetypes.MimeTypes(filenames=())  # built in, the same on every machine


@final
class Answer(msgspec.Struct, frozen=True):
    """The terminal frame of a call that worked; None after a stream."""

    output: JsonBytes | None


Said = Started | Chunk | Progress | Artifact | Answer | SwarmError
_TAKES_PIECES: Final = (PieceFrame, ChunkFrame, ArtifactFrame, ResultFrame)


@final
class Transcript:
    """Feed it frames in order; it gives the event of each, or raises why it must not go on."""

    def __init__(self, call_id: str, max_output_bytes: int) -> None:
        self._call_id = call_id
        self._output_left = max_output_bytes
        self._artifact_left = MAX_ARTIFACT_BYTES
        self._artifacts: set[str] = set()
        self._progress = 0
        self._pieces = bytearray()
        self.has_started = False
        self.has_ended = False
        self.chunks = 0
        self.bytes_out = 0

    def accept(self, frame: CallFrame) -> Said | None:
        """None: nothing to tell yet. A `SwarmError` is returned when the guest reports one."""
        if self.has_ended:
            raise SandboxProtocolBroken("The sandbox went on after the end of the call.")
        if not self.has_started and not isinstance(frame, (StartedFrame, ErrorFrame)):
            raise SandboxProtocolBroken("The sandbox sent output before the handler started.")
        if self._pieces and not isinstance(frame, _TAKES_PIECES):
            raise SandboxProtocolBroken("The sandbox left pieces of content without an owner.")
        return self._turn(frame)

    def _turn(self, frame: CallFrame) -> Said | None:  # noqa: PLR0911  one for each kind
        match frame:
            case PieceFrame():
                self._keep(frame.d)
                return None
            case StartedFrame():
                return self._start(frame)
            case ChunkFrame():
                return self._chunk(frame)
            case ProgressFrame():
                return self._report(frame)
            case ArtifactFrame():
                return self._artifact(frame)
            case ResultFrame():
                return self._result(frame)
            case EndFrame():
                return self._end(frame)
            case ErrorFrame():
                self.has_ended = True
                return _error(frame)
            case _:
                assert_never(frame)

    def _start(self, frame: StartedFrame) -> Started:
        if self.has_started or frame.id != self._call_id:
            raise SandboxProtocolBroken("The sandbox started a call that it was not given.")
        self.has_started = True
        return Started()

    def _chunk(self, frame: ChunkFrame) -> Chunk:
        if frame.n != self.chunks:
            raise SandboxProtocolBroken(
                f"The sandbox sent chunk {frame.n} where {self.chunks} was due."
            )
        content = self._whole(frame.d)
        if frame.cut > len(content):
            raise SandboxProtocolBroken("The sandbox sent a chunk shorter than it said.")
        self._spend_output(len(content))
        value = content[: frame.cut]
        try:
            text = content[frame.cut :].decode()
        except UnicodeDecodeError:
            raise SandboxProtocolBroken("The sandbox sent text that is not UTF-8.") from None
        if frame.cut == 0:
            value = msgspec.json.encode(text)
        elif not is_json(value):
            raise SandboxProtocolBroken("The sandbox sent a chunk that is not JSON.")
        self.chunks += 1
        return Chunk(frame.n, JsonBytes(value), text)

    def _report(self, frame: ProgressFrame) -> Progress:
        self._progress += 1
        if self._progress > MAX_PROGRESS:
            raise SandboxProtocolBroken(f"The sandbox reported progress {self._progress} times.")
        return Progress(frame.p, frame.note)

    def _artifact(self, frame: ArtifactFrame) -> Artifact:
        content = self._whole(frame.d)
        if not _NAME.fullmatch(frame.name) or frame.name in (".", ".."):
            raise BadOutput(
                "The handler left an artifact whose name is not 1 to 128 of A-Z a-z 0-9 . _ -"
            )
        if frame.name in self._artifacts:
            raise SandboxProtocolBroken("The sandbox sent one artifact twice.")
        self._artifacts.add(frame.name)
        self._artifact_left -= len(content)
        if self._artifact_left < 0 or len(self._artifacts) > MAX_ARTIFACTS:
            raise OutputTooLarge(
                f"The handler left more than {MAX_ARTIFACTS} artifacts or "
                f"{MAX_ARTIFACT_BYTES} bytes of them."
            )
        self.bytes_out += len(content)
        media_type = _media_types.guess_type(frame.name)[0] or "application/octet-stream"
        return Artifact(frame.name, media_type, hashlib.sha256(content).digest(), content)

    def _result(self, frame: ResultFrame) -> Answer:
        if self.chunks:
            raise SandboxProtocolBroken("The sandbox sent a result after chunks.")
        content = self._whole(frame.d)
        self._spend_output(len(content))
        if not is_json(content):
            raise SandboxProtocolBroken("The sandbox sent a result that is not JSON.")
        self.has_ended = True
        return Answer(JsonBytes(content))

    def _end(self, frame: EndFrame) -> Answer:
        if frame.n != self.chunks:
            raise SandboxProtocolBroken("The sandbox miscounted its chunks.")
        self.has_ended = True
        return Answer(None)

    def _keep(self, piece: bytes) -> None:
        # Their size is fixed, so that what is kept is bounded by its bytes alone.
        if len(piece) != PIECE:
            raise SandboxProtocolBroken(f"The sandbox sent a piece of {len(piece)} bytes.")
        # What they belong to is not known yet: an artifact may be as large as artifacts may be.
        if len(self._pieces) + len(piece) > max(self._output_left, self._artifact_left):
            raise OutputTooLarge(
                f"The handler gave {len(self._pieces) + len(piece)} bytes or more at once."
            )
        self._pieces += piece

    def _whole(self, tail: bytes) -> bytes:
        if not self._pieces:
            return tail
        self._pieces += tail
        content = bytes(self._pieces)
        self._pieces = bytearray()
        return content

    def _spend_output(self, size: int) -> None:
        self.bytes_out += size
        self._output_left -= size
        if self._output_left < 0:
            raise OutputTooLarge(f"The handler's output is over its limit: {self.bytes_out} bytes.")


def _error(frame: ErrorFrame) -> SwarmError:
    match frame.code:
        case "invalid_input":
            return InvalidInput(frame.message, data={"detail": msgspec.to_builtins(frame.detail)})
        case "handler_error":
            return HandlerFailed(frame.message, data={"message": frame.message})
        case "bad_output":
            return BadOutput(frame.message)
        case "memory":
            return ResourceExceeded(frame.message, data={"kind": "memory"})
        case "cancelled":
            return RunCancelled(frame.message)
        case _:
            assert_never(frame.code)
