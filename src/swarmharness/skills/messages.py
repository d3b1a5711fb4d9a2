"""The wire messages by which a node tells its peers which skills it offers.

`WATCH_METHOD` is a streamed call that answers with an `OffersMessage` at once and again after
every change, until the caller leaves. `DESCRIBE_METHOD` takes a skill's name and answers with its
description as JSON, schemas included.

Names and versions reach terminals, logs and routes, so one that a skill of ours could not have
makes the whole message malformed; a summary is only prose and is made printable.
"""

from __future__ import annotations

from typing import Annotated, final

import msgspec
from msgspec import Meta

from swarmharness.kernel.codec import decode
from swarmharness.kernel.errors import MalformedMessage
from swarmharness.kernel.printable import printable_line
from swarmharness.network.errors import VersionMismatch
from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.metadata import checked_name

WATCH_METHOD = "skills.watch"
DESCRIBE_METHOD = "skills.describe"
OFFERS_LIMIT = 1_000  # skills of one node that peers are told of; a full list stays below 1 MiB
VERSION = 1
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


def decode_offers(data: bytes) -> OffersMessage:
    """What a peer says it offers, fit to be shown and chosen from."""
    message = decode(OffersMessage, data)
    if message.version != VERSION:
        raise VersionMismatch(
            f"The peer tells its offers in version {message.version}; this node speaks {VERSION}."
        )
    _require_printable(message.sandbox_tier)
    skills = tuple(_checked(offer) for offer in message.skills)
    if len({offer.name for offer in skills}) != len(skills):
        raise MalformedMessage("The peer offers two skills of one name.")
    return msgspec.structs.replace(message, skills=skills)


def _checked(offer: SkillOffer) -> SkillOffer:
    try:
        checked_name(offer.name)
    except BadSkillFile as error:
        raise MalformedMessage(f"The peer offers a skill whose {error.sentence}.") from None
    _require_printable(offer.version)
    _require_printable(offer.kind)
    return msgspec.structs.replace(offer, summary=printable_line(offer.summary)[:SUMMARY_LIMIT])


def _require_printable(text: str) -> None:
    if printable_line(text) != text:
        raise MalformedMessage(f"The peer's offers hold control characters: {text!a}.")
