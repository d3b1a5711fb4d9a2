"""A manifest is `skill.toml`, the one file of a skill folder that the node itself parses.

`[skill]` is HarnessAPI's table and stays a plain mapping until it is merged with the front
matter; `[swarm]` is ours. All other tables belong to other tools and are ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any, final

import msgspec

from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.request import SkillRequest, parse_request

MANIFEST_LIMIT = 64 * 1024  # bytes; the largest in the wild has 2 KiB


@final
class Manifest(msgspec.Struct, frozen=True):
    """Both tables that mean something here."""

    skill: Mapping[str, Any] = {}
    request: SkillRequest = SkillRequest()
    warnings: tuple[str, ...] = ()


def parse_manifest(content: bytes | None) -> Manifest:
    """None stands for a folder without the file, which is the usual case."""
    if content is None:
        return Manifest()
    if len(content) > MANIFEST_LIMIT:
        raise BadSkillFile(f"skill.toml has {len(content)} bytes, more than {MANIFEST_LIMIT}")
    try:
        tables = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise BadSkillFile(f"skill.toml: {error}") from None
    skill = _table(tables, "skill")
    request, warnings = parse_request(_table(tables, "swarm"))
    return Manifest(skill, request, tuple(warnings))


def _table(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tables.get(name, {})
    if not isinstance(found, Mapping):
        raise BadSkillFile(f"skill.toml: {name} must be a table, as in [{name}]")
    return found
