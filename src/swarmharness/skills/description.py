"""A description, as the host sees it: bytes from a sandbox in which foreign code has run.

Nothing in it is believed beyond its shape. Size is checked before decoding, depth and schemas
after; texts are shown to people and agents as the skill's words, never obeyed.
"""

from __future__ import annotations

from typing import Any, Literal, final

import msgspec

from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.schema import DEPTH_LIMIT, check_schema, depth_within

DESCRIPTION_VERSION = 1
FRAME_LIMIT = 1024 * 1024  # bytes; what a person or an agent could ever read of one skill
MAX_WARNINGS = 64  # more than that is noise
MAX_WARNING = 500  # characters; one line


@final
class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a skill says of itself once imported."""

    version: int
    kind: Literal["plain", "stream"]
    is_sync: bool
    front_matter: dict[str, Any]
    docstring: str | None
    instructions: str | None
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    examples: list[Any]
    defaults: Any
    warnings: list[str]


def decode_description(frame: bytes) -> Description:
    """`BadSkillFile` for anything that a well-behaved describe step would not have sent."""
    if len(frame) > FRAME_LIMIT:
        raise BadSkillFile(f"the description has {len(frame)} bytes, more than {FRAME_LIMIT}")
    try:
        description = msgspec.json.decode(frame, type=Description)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSkillFile(f"the description cannot be read: {error}") from None
    if description.version != DESCRIPTION_VERSION:
        raise BadSkillFile(f"the description has the unknown version {description.version}")
    check_schema(description.input_schema, "input")
    check_schema(description.output_schema, "output")
    for shown in (description.front_matter, description.examples, description.defaults):
        if not depth_within(shown, DEPTH_LIMIT):
            raise BadSkillFile(f"the description nests deeper than {DEPTH_LIMIT} levels")
    if len(description.warnings) > MAX_WARNINGS or any(
        len(line) > MAX_WARNING for line in description.warnings
    ):
        raise BadSkillFile("the description carries too many or too long warnings")
    return description
