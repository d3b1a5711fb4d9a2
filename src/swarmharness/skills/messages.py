"""The wire messages by which a node tells its peers which skills it offers.

`WATCH_METHOD` is a streamed call that answers with an `OffersMessage` at once and again after
every change, until the caller leaves. `DESCRIBE_METHOD` takes a skill's name and answers with its
description as JSON, schemas included.
"""

from __future__ import annotations

from typing import Annotated, final

import msgspec
from msgspec import Meta

WATCH_METHOD = "skills.watch"
DESCRIBE_METHOD = "skills.describe"
OFFERS_LIMIT = 1_000  # skills of one node that peers are told of; a full list stays below 1 MiB
SUMMARY_LIMIT = 200  # characters of description in a list; the whole is asked for by name

Natural = Annotated[int, Meta(ge=0)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]


@final
class SkillOffer(msgspec.Struct, array_like=True, frozen=True):
    """One skill that this node runs for others."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    version: Annotated[str, Meta(max_length=64)]
    replica: Hash
    """Equal on two nodes only if content, support files, environment and schemas are."""
    summary: Annotated[str, Meta(max_length=SUMMARY_LIMIT)]
    kind: Annotated[str, Meta(max_length=16)]
    """`plain` or `stream`."""
    places: Annotated[int, Meta(ge=1, le=10_000)]
    """How many calls it runs at the same time."""


@final
class OffersMessage(msgspec.Struct, array_like=True, frozen=True):
    """Everything this node offers now; replaces what was said before."""

    version: Natural
    sandbox_tier: Annotated[str, Meta(max_length=8)]
    skills: Annotated[tuple[SkillOffer, ...], Meta(max_length=OFFERS_LIMIT)]
