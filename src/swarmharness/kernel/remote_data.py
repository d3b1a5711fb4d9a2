"""Remote data is the `data` of an error that a peer sent, reduced to what every reader can hold.

Readers print it, log it and put it into JSON. msgpack knows more than JSON does (bytes, times,
extensions, keys of any type, numbers that are none), and a peer can nest and name at will. What is
not plain JSON of a modest size is left out whole; the two keys that readers look into must have
the form that they expect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

DEPTH_LIMIT = 16  # our own errors nest three deep
_INTEGERS = range(-(2**63), 2**64)  # what msgpack and JSON readers agree on


def believed_data(data: Mapping[Any, Any], *, limit_bytes: int) -> dict[str, Any]:
    """A copy that is safe to read, or `{"left_out": why}`."""
    kept = dict(data)
    if not _is_json(kept, DEPTH_LIMIT):
        return {"left_out": "details that are not plain JSON"}
    if len(msgspec.msgpack.encode(kept)) > limit_bytes:
        return {"left_out": f"details over {limit_bytes} bytes"}
    for key, has_form in _FORMS.items():
        if key in kept and not _is_list_of(kept[key], has_form):
            del kept[key]
    return kept


def _is_json(value: object, depth: int) -> bool:
    match value:
        case None | bool() | str():
            return True
        case int():
            return value in _INTEGERS
        case float():
            return math.isfinite(value)
        case list():
            return depth > 0 and all(_is_json(part, depth - 1) for part in value)
        case dict():
            return depth > 0 and all(
                isinstance(key, str) and _is_json(part, depth - 1) for key, part in value.items()
            )
    return False


def _is_list_of(value: object, has_form: Callable[[dict[str, Any]], bool]) -> bool:
    return isinstance(value, list) and all(
        isinstance(part, dict) and has_form(part) for part in value
    )


def _is_attempt(part: dict[str, Any]) -> bool:
    return all(isinstance(part.get(key), str) for key in ("node", "code", "sentence"))


def _is_fault(part: dict[str, Any]) -> bool:
    places = part.get("loc", [])
    return (
        isinstance(places, list)
        and all(isinstance(place, str | int) for place in places)
        and isinstance(part.get("msg", ""), str)
    )


_FORMS: Mapping[str, Callable[[dict[str, Any]], bool]] = {
    "attempts": _is_attempt,
    "detail": _is_fault,
}
