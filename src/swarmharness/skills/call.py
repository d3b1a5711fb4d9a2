"""A skill call is one run of one handler: its input, its limits, and the events it gives back.

Values here are the seam between those who want a skill run (tasks) and the sandbox that runs
it. JSON stays encoded from the surface to the handler and back: the node never needs to look
inside, and what it does not decode cannot hurt it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from enum import StrEnum
from typing import Final, NewType, Protocol, final

import msgspec

JsonBytes = NewType("JsonBytes", bytes)
"""One JSON value, UTF-8."""

_json_walker: Final = msgspec.json.Decoder(msgspec.Raw)
_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}|[eE][+-]?[0-9]{3}")


def is_json(data: bytes) -> bool:
    """Whether this is exactly one JSON value in UTF-8 that every reader of ours can decode.

    No value is built, unless the text holds what may be a number out of a machine's range: JSON
    allows `1e999`, and readers do not.
    """
    try:
        _json_walker.decode(data)
        data.decode()
        if _LONG_NUMBER.search(data) is not None:
            msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


class CallerClass(StrEnum):
    """Whose code's traces may meet: sandboxes are never shared across these."""

    OWNER = "owner"
    SPACE = "space"
    PUBLIC = "public"


@final
class SkillCall(msgspec.Struct, frozen=True, kw_only=True):
    """What the sandbox needs to run one call. `deadline_ms` is relative to the start."""

    call_id: str
    skill: str
    input: JsonBytes
    deadline_ms: int
    caller: CallerClass = CallerClass.PUBLIC


@final
class Meters(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What a call used, measured from outside the sandbox. Integers only."""

    queue_ms: int = 0
    wall_ms: int = 0
    cpu_ms: int = 0
    max_rss_kib: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    chunks: int = 0
    cold: bool = False


@final
class Started(msgspec.Struct, frozen=True, tag="started"):
    """The handler runs: from here on a second run elsewhere repeats side effects."""


@final
class Chunk(msgspec.Struct, frozen=True, tag="chunk"):
    """The n-th thing a streaming handler yielded; `text` is `str(chunk)`, as HarnessAPI sends."""

    n: int
    value: JsonBytes
    text: str


@final
class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far the handler says it is: 0 to 1000 thousandths, and a word about it."""

    thousandths: int
    note: str


@final
class Artifact(msgspec.Struct, frozen=True, tag="artifact"):
    """A file the handler left in `$SWARM_OUT`."""

    name: str
    media_type: str
    sha256: bytes
    content: bytes


@final
class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The last event. `output` is None for a stream, whose chunks were the output."""

    output: JsonBytes | None
    meters: Meters


CallEvent = Started | Chunk | Progress | Artifact | Finished


class Executor(Protocol):
    """Runs calls. Errors are `SwarmError`s; closing the iterator cancels the call."""

    def run(self, call: SkillCall) -> AsyncGenerator[CallEvent, None]: ...
