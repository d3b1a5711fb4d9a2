"""An error is part of the interface: a stable code, a sentence, a hint, and who is to blame.

Theory of operation. Every refusal that can reach a person, a program or another node is a
`SwarmError` subclass. The class carries what never changes (code, blame, exit status); the
instance carries the sentence with the values of the moment. An error crosses a wire as an
`ErrorRecord` and is raised again on the other side as the same class, with one change: what
the far side calls *its own* fault is, seen from here, the *peer's* fault.

    SwarmError
    ├── kernel.*     malformed bytes, identity, internal faults      kernel/errors.py
    ├── network.*    addresses, dialling, identity, rpc              network/errors.py
    ├── skills.*     folders, schemas, sandbox, running              skills/errors.py
    ├── tasks.*      nobody can do it, all attempts failed           tasks/errors.py
    ├── node.*       home directory, start-up                        node/errors.py
    └── surfaces.*   requests to the local control API               http/errors.py, sdk/errors.py

Codes are never reused. `catalogue()` lists them for the documentation, which a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, final

import msgspec

from swarmharness.kernel.printable import printable_line
from swarmharness.kernel.remote_data import believed_data

SENTENCE_LIMIT = 300  # characters; a terminal shows about three lines of it
DATA_LIMIT = 8 * 1024  # bytes of encoded `data`; errors are not a bulk channel


class Blame(StrEnum):
    """Whose fault it is, and therefore what to do next."""

    CALLER = "caller"
    """The request itself is wrong: sending it again, anywhere, will not help."""
    PEER = "peer"
    """The other node misbehaved: try another. The only blame that may lower trust."""
    SELF = "self"
    """Our own bug or missing resource."""
    WORLD = "world"
    """Time, distance or load: try later, or elsewhere."""


class ExitCode:
    """Exit statuses of the `swarm` command."""

    FAILED = 1
    USAGE = 2
    NO_NODE = 3
    REFUSED = 4
    DEGRADED = 5
    DEADLINE = 6
    NOT_AUTHORISED = 7
    INTERRUPTED = 130


@final
class ErrorRecord(msgspec.Struct, array_like=True, frozen=True):
    """The wire form of an error."""

    code: str
    blame: str
    sentence: str
    hint: str = ""
    data: dict[str, Any] = {}


_CATALOGUE: dict[str, type[SwarmError]] = {}


class SwarmError(Exception):
    """The root; never raised itself. Subclasses set `code`, `blame`, `hint`."""

    code: str = ""
    blame: Blame = Blame.SELF
    hint: str = ""
    elsewhere: ClassVar[bool] = False
    """Whether another executor may succeed where this one failed with this error."""
    later: ClassVar[bool] = False
    """Whether the very same node may accept the same request in a moment: it is only full."""
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = ExitCode.FAILED

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        code = cls.__dict__.get("code")
        if code is None:
            return
        assert code not in _CATALOGUE, f"error code {code} defined twice"
        assert cls.hint, f"{code} has no hint"
        _CATALOGUE[code] = cls

    def __init__(
        self, sentence: str, *, hint: str | None = None, data: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(sentence)
        self.sentence = _clip(sentence)
        if hint is not None:
            self.hint = _clip(hint)
        self.data: dict[str, Any] = dict(data or {})

    def record(self) -> ErrorRecord:
        """Data that does not fit the wire limit is left out, never cut in the middle."""
        data = self.data
        if len(msgspec.msgpack.encode(data)) > DATA_LIMIT:
            data = {"left_out": f"details over {DATA_LIMIT} bytes"}
        return ErrorRecord(self.code, str(self.blame), self.sentence, self.hint, data)


class RemoteError(SwarmError):
    """A peer sent an error code that this version does not know; the code is kept."""

    code = "kernel.remote_error"
    blame = Blame.PEER
    hint = "The other node may run a newer version; compare `swarm --version` on both."
    elsewhere = True
    http_status = 502


class InternalError(SwarmError):
    """A fault of our own that no caller can mend."""

    code = "kernel.internal_error"
    blame = Blame.SELF
    hint = "This is a bug: please report it with the node's log."
    elsewhere = True


class MalformedMessage(SwarmError):
    """Bytes that are not the message they claim to be."""

    code = "kernel.malformed_message"
    blame = Blame.PEER
    hint = "The sender is broken or runs an incompatible version."
    elsewhere = True
    http_status = 502


class BadIdentifier(SwarmError):
    """Text that is not a node id, or whose checksum does not match."""

    code = "kernel.bad_identifier"
    blame = Blame.CALLER
    hint = "Copy the id again; `swarm id` on that machine prints it."
    http_status = 400
    exit_code = ExitCode.USAGE


def from_record(record: ErrorRecord, *, remote: bool) -> SwarmError:
    """Raise-able error for a received record.

    Of a `remote` one nothing is believed that a reader could stumble over: the sender's `self`
    becomes `peer`, its words become printable, its data plain, and a code that we know has our
    own hint.
    """
    cls = _CATALOGUE.get(record.code)
    code, sentence, hint, data = record.code, record.sentence, record.hint, record.data
    if remote:
        code, sentence = printable_line(code), printable_line(sentence)
        hint = printable_line(hint) if cls is None else ""
        data = believed_data(data, limit_bytes=DATA_LIMIT)
    error: SwarmError
    if cls is None:
        error = RemoteError(sentence, hint=hint or None, data=data)
        error.code = _clip(code)
        try:
            error.blame = Blame(record.blame)
        except ValueError:
            error.blame = Blame.PEER
    else:
        error = cls.__new__(cls)
        SwarmError.__init__(error, sentence, hint=hint or None, data=data)
    if remote and error.blame is Blame.SELF:
        error.blame = Blame.PEER
    return error


def catalogue() -> Mapping[str, type[SwarmError]]:
    """Every error code of the modules imported so far, sorted."""
    return dict(sorted(_CATALOGUE.items()))


def _clip(text: str) -> str:
    return text if len(text) <= SENTENCE_LIMIT else text[: SENTENCE_LIMIT - 1] + "…"
