from __future__ import annotations

import pytest

from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.schema import (
    DEPTH_LIMIT,
    SCHEMA_LIMIT,
    check_schema,
    depth_within,
    schema_digest,
)


def nested(depth: int) -> dict:
    schema: dict = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def test_a_pattern_is_carried_and_never_tried():
    schema = {"type": "string", "pattern": "^(a|a)*(a|a)*$" + "(" * 3}
    assert check_schema(schema, "input") is schema


def test_depth_has_a_limit():
    check_schema(nested(DEPTH_LIMIT), "input")
    with pytest.raises(BadSkillFile, match="deeper"):
        check_schema(nested(DEPTH_LIMIT + 1), "input")
    with pytest.raises(BadSkillFile, match="deeper"):
        check_schema({"anyOf": [nested(DEPTH_LIMIT)]}, "input")


def test_size_has_a_limit():
    frame = len('{"title":""}')
    check_schema({"title": "x" * (SCHEMA_LIMIT - frame)}, "output")
    with pytest.raises(BadSkillFile, match="output schema has"):
        check_schema({"title": "x" * (SCHEMA_LIMIT - frame + 1)}, "output")


@pytest.mark.parametrize(
    "reference", ["https://example.org/x.json", "file:///etc/passwd", "other.json#/a", "#", ""]
)
def test_references_stay_inside(reference):
    check_schema({"$ref": "#/$defs/Node"}, "input")
    with pytest.raises(BadSkillFile, match="outside"):
        check_schema({"anyOf": [{"$ref": reference}]}, "input")


def test_a_property_may_be_called_ref():
    check_schema({"properties": {"$ref": {"type": "string"}}}, "input")


def test_only_a_table_is_a_schema():
    with pytest.raises(BadSkillFile):
        check_schema([], "input")


def test_the_digest_ignores_the_order_of_keys_only():
    one, two = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert schema_digest(one, {}) == schema_digest(two, {})
    assert schema_digest(one, {}) != schema_digest({}, one)
    assert schema_digest({"a": [1, 2]}, {}) != schema_digest({"a": [2, 1]}, {})


def test_depth_within_counts_tables_and_lists():
    assert depth_within(1, 0)
    assert depth_within([[1]], 2)
    assert not depth_within([[1]], 1)
    assert not depth_within({"a": [{}]}, 2)
