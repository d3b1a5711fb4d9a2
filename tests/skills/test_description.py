from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.skills.description import FRAME_LIMIT, decode_description
from swarmharness.skills.errors import BadSkillFile

GOOD = {
    "version": 1,
    "kind": "plain",
    "is_sync": False,
    "front_matter": {},
    "docstring": None,
    "instructions": None,
    "input_schema": {"type": "object"},
    "output_schema": {"type": "object"},
    "examples": [{"a": 1}],
    "defaults": None,
    "warnings": [],
}


def frame(**changes: object) -> bytes:
    return json.dumps(GOOD | changes).encode()


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_a_good_one():
    description = decode_description(frame(later="ignored"))
    assert description.kind == "plain"
    assert description.examples == [{"a": 1}]


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"kind": "other"},
        {"is_sync": "yes"},
        {"input_schema": []},
        {"input_schema": {"$ref": "https://example.org"}},
        {"output_schema": {"title": "x" * 300_000}},
        {"examples": nested(34)},
        {"defaults": nested(33)},
        {"front_matter": {"tags": nested(33)}},
        {"warnings": ["w"] * 65},
        {"warnings": ["w" * 501]},
        {"instructions": 7},
    ],
)
def test_what_an_honest_sandbox_would_not_send(changes):
    with pytest.raises(BadSkillFile):
        decode_description(frame(**changes))


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"null", b"\xff", b"[" * 100_000, b"{" * 5, frame()[:-1]]
)
def test_bytes_that_are_no_description(raw):
    with pytest.raises(BadSkillFile):
        decode_description(raw)


def test_the_frame_has_a_size_limit():
    padding = FRAME_LIMIT - len(frame(docstring=""))
    assert decode_description(frame(docstring="x" * padding)).docstring
    with pytest.raises(BadSkillFile, match="more than"):
        decode_description(frame(docstring="x" * (padding + 1)))


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.none() | st.integers() | st.text()))
def test_any_changed_field_decodes_or_is_refused(changes):
    try:
        decode_description(frame(**changes))
    except BadSkillFile:
        return
