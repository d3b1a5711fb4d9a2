from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.metadata import SkillMetadata, merge_metadata


def merge(table=None, front=None, docstring=None, folder="folder") -> SkillMetadata:
    return merge_metadata(table or {}, front or {}, docstring=docstring, folder_name=folder)


def test_defaults():
    assert merge() == SkillMetadata(
        name="folder", description="", is_mcp=True, tags=(), timeout_ms=30_000
    )


def test_skill_toml_goes_before_front_matter_goes_before_docstring():
    front = {"name": "front", "description": "front", "license": "MIT"}
    merged = merge({"name": "toml"}, front, docstring="doc")
    assert (merged.name, merged.description, merged.license) == ("toml", "front", "MIT")
    assert merge({}, {}, docstring="doc").description == "doc"


def test_an_empty_key_in_skill_toml_hides_the_front_matter():
    merged = merge(
        {"tags": [], "license": "", "description": ""},
        {"tags": ["a"], "license": "MIT", "description": "front"},
        docstring="doc",
    )
    assert (merged.tags, merged.license, merged.description) == ((), "", "doc")


def test_empty_front_matter_is_no_value():
    merged = merge({}, {"name": "", "license": "~", "description": " \n"}, docstring="doc")
    assert (merged.name, merged.license, merged.description) == ("folder", None, "doc")


@pytest.mark.parametrize(
    ("text", "expected"), [("false", False), ("No", False), ("TRUE", True), (True, True)]
)
def test_booleans_from_front_matter(text, expected):
    assert merge({}, {"is_mcp": text}).is_mcp is expected


@pytest.mark.parametrize(
    ("value", "expected"), [(2, 2000), (0.25, 250), ("12", 12_000), ("1.5", 1500), (1e-9, 1)]
)
def test_timeouts(value, expected):
    assert merge({"timeout_secs": value}).timeout_ms == expected


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("tags", "one two, three", ("one two", "three")),
        ("allowed-tools", "Read, Bash(git add *) Write", ("Read", "Bash(git add *)", "Write")),
        ("allowed-tools", ["Read"], ("Read",)),
    ],
)
def test_lists_have_a_one_line_form(key, value, words):
    assert getattr(merge({}, {key: value}), key.replace("-", "_")) == words


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"name": ""}, "name"),
        ({"name": 7}, "name"),
        ({"name": "a" * 129}, "name"),
        ({"name": "a\nb"}, "control"),
        ({"name": "a\u202eb"}, "control"),
        ({"name": "\ud800"}, "Unicode"),
        ({"is_mcp": 1}, "is_mcp"),
        ({"is_mcp": "maybe"}, "is_mcp"),
        ({"timeout_secs": 0}, "timeout_secs"),
        ({"timeout_secs": -1}, "timeout_secs"),
        ({"timeout_secs": float("nan")}, "timeout_secs"),
        ({"timeout_secs": True}, "timeout_secs"),
        ({"timeout_secs": "soon"}, "timeout_secs"),
        ({"timeout_secs": 10**400}, "timeout_secs"),
        ({"tags": 3}, "tags"),
        ({"tags": [3]}, "tags"),
        ({"tags": ["a"] * 65}, "tags"),
        ({"description": ["a"]}, "description"),
        ({"license": {"a": 1}}, "license"),
    ],
)
def test_a_value_that_cannot_be_meant_names_its_key(table, word):
    with pytest.raises(BadSkillFile, match=word):
        merge(table)


def test_names_may_be_any_text_of_128_bytes():
    assert merge({"name": "ä" * 64}).name == "ä" * 64
    with pytest.raises(BadSkillFile):
        merge({"name": "ä" * 65})


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["name", "description", "is_mcp", "tags", "timeout_secs", "license", "allowed-tools"]
)


@given(st.dictionaries(KEYS, JUNK), st.dictionaries(KEYS, JUNK))
def test_any_values_merge_or_are_refused(table, front):
    try:
        merged = merge(table, front)
    except BadSkillFile:
        return
    assert merged.timeout_ms >= 1
    assert 0 < len(merged.name.encode()) <= 128
