"""A schema is the JSON Schema of a skill's input or output, as a foreign sandbox told it.

The node carries schemas and shows them; it never validates with them. The skill's own pydantic
model, inside the sandbox, has the last word, so nothing here evaluates `pattern`: one nested
quantifier takes seconds on thirty characters. What is checked is only what could hurt a reader:
size, depth, and references that lead out of the document.
"""

from __future__ import annotations

import hashlib
from typing import Any, NewType

import msgspec

from swarmharness.skills.errors import BadSkillFile

SCHEMA_LIMIT = 256 * 1024  # bytes; generated schemas of large APIs stay under 100 KiB
DEPTH_LIMIT = 32  # levels; pydantic nests by reference, so real ones stay under 12

SchemaDigest = NewType("SchemaDigest", bytes)
"""32 bytes over both schemas in one fixed spelling."""


def check_schema(schema: object, name: str) -> dict[str, Any]:
    """The same schema, or `BadSkillFile` naming what is wrong with it."""
    if not isinstance(schema, dict):
        raise BadSkillFile(f"the {name} schema is not a table")
    _walk(schema, name, 1)
    size = len(_canonical(schema))
    if size > SCHEMA_LIMIT:
        raise BadSkillFile(f"the {name} schema has {size} bytes, more than {SCHEMA_LIMIT}")
    return schema


def schema_digest(input_schema: dict[str, Any], output_schema: dict[str, Any]) -> SchemaDigest:
    """Equal for equal schemas, whatever the order of their keys."""
    both = _canonical([input_schema, output_schema])
    return SchemaDigest(hashlib.sha256(b"swarm/schema/1\0" + both).digest())


def depth_within(value: object, limit: int) -> bool:
    """Whether tables and lists nest at most `limit` deep; itself never deeper than that."""
    if not isinstance(value, dict | list):
        return True
    if limit == 0:
        return False
    inner = value.values() if isinstance(value, dict) else value
    return all(depth_within(item, limit - 1) for item in inner)


def _walk(value: object, name: str, depth: int) -> None:
    if not isinstance(value, dict | list):
        return
    if depth > DEPTH_LIMIT:
        raise BadSkillFile(f"the {name} schema nests deeper than {DEPTH_LIMIT} levels")
    if isinstance(value, dict):
        for key in ("$ref", "$dynamicRef"):
            reference = value.get(key)
            # A property may be called $ref; then its value is a schema, not text.
            if isinstance(reference, str) and not reference.startswith("#/"):
                raise BadSkillFile(
                    f"the {name} schema refers to {reference[:80]!r}, outside itself"
                )
        for inner in value.values():
            _walk(inner, name, depth + 1)
    else:
        for inner in value:
            _walk(inner, name, depth + 1)


def _canonical(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")
