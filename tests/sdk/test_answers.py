"""What a node sends back is as it should be, or its fault and no traceback."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swarmharness.sdk.answers import read_answer, read_update, read_whole
from swarmharness.sdk.errors import NodeUnresponsive

COMPLETED = {
    "type": "completed",
    "short_node": "n",
    "failures": 0,
    "usage": {"wall_ms": 1, "cpu_ms": 1, "later": 1},
    "output": None,
    "later": True,
}
GOOD = [
    COMPLETED,
    {"type": "accepted", "short_node": "n"},
    {"type": "artifact", "name": "f", "size": 1, "content_base64": "", "sha256": ""},
    {"type": "chunk", "text": "x", "value": {"a": [1]}},
    {"type": "moved", "short_node": "n", "sentence": "s"},
    {"type": "progress", "fraction": 1, "note": ""},
    {"type": "of a later version", "x": 1},
]


@pytest.mark.parametrize("update", GOOD)
def test_a_good_update_is_passed_on_whole(update: dict[str, Any]):
    assert read_update(json.dumps(update).encode()) == update


def test_a_good_answer_is_passed_on_whole():
    whole = {**COMPLETED, "artifacts": [GOOD[2]], "chunks": [1, None]}
    assert read_whole(json.dumps(whole).encode()) == whole


@pytest.mark.parametrize("raw", [b"", b"no json", b"\xff", b"[]", b'"\xff"', b"[" * 100_000])
def test_what_is_no_answer_is_refused(raw: bytes):
    for read in (read_update, read_whole, lambda content: read_answer(content, dict[str, Any])):
        with pytest.raises(NodeUnresponsive):
            read(raw)


@pytest.mark.parametrize("update", GOOD[:-1])
def test_an_update_without_a_member_or_of_a_wrong_type_is_refused(update: dict[str, Any]):
    for member in set(update) - {"later", "sha256", "value", "type", "output"}:
        for odd in ({**update, member: [None]}, {k: v for k, v in update.items() if k != member}):
            with pytest.raises(NodeUnresponsive):
                read_update(json.dumps(odd).encode())


@pytest.mark.parametrize("kind", [None, 1, [], {}])
def test_an_update_of_no_type_is_refused(kind: object):
    with pytest.raises(NodeUnresponsive):
        read_update(json.dumps({"type": kind}).encode())
