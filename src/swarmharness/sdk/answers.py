"""An answer's shape is what the client relies on in what a node sends back.

Nodes and clients of different versions meet: a member that is missing or of another type is told
as the node's fault, where it would otherwise end the caller with a traceback far from here. What
is not listed is passed on unread.
"""

from __future__ import annotations

from typing import Any, TypeVar, final

import msgspec

from swarmharness.sdk.errors import NodeUnresponsive

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
T = TypeVar("T")


@final
class Problem(msgspec.Struct):
    """A refusal."""

    code: str
    blame: str
    detail: str
    hint: str
    data: dict[str, Any]


class _Usage(msgspec.Struct):
    wall_ms: int
    cpu_ms: int


class _Artifact(msgspec.Struct):
    name: str
    size: int
    content_base64: str


class _Accepted(msgspec.Struct):
    short_node: str


class _Chunk(msgspec.Struct):
    text: str


class _Progress(msgspec.Struct):
    fraction: float
    note: str


class _Moved(msgspec.Struct):
    short_node: str
    sentence: str


class _Completed(msgspec.Struct):
    short_node: str
    failures: int
    usage: _Usage
    output: Any


class _Whole(_Completed):
    artifacts: list[_Artifact]
    chunks: list[Any] = []


_UPDATES: dict[Any, type[msgspec.Struct]] = {
    "accepted": _Accepted,
    "artifact": _Artifact,
    "chunk": _Chunk,
    "completed": _Completed,
    "moved": _Moved,
    "progress": _Progress,
}


def read_answer(content: bytes, kind: type[T]) -> T:
    """`NodeUnresponsive` where the bytes are not what was asked for."""
    try:
        return msgspec.json.decode(content, type=kind)
    except UNREADABLE as error:
        raise _odd(error) from error


def read_whole(content: bytes) -> dict[str, Any]:
    """A completed task in one answer."""
    whole: dict[str, Any] = read_answer(content, dict[str, Any])
    _check(whole, _Whole)
    return whole


def read_update(line: bytes) -> dict[str, Any]:
    """One update of a task."""
    update: dict[str, Any] = read_answer(line, dict[str, Any])
    kind = update.get("type")
    if not isinstance(kind, str):
        raise NodeUnresponsive("The node sent an update of no type.")
    if kind in _UPDATES:
        _check(update, _UPDATES[kind])
    return update


def _check(value: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _odd(error) from error


def _odd(error: Exception) -> NodeUnresponsive:
    return NodeUnresponsive(f"The node's answer cannot be read: {error}.")
