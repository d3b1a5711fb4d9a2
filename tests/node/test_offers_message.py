"""What a peer may say that it offers."""

from __future__ import annotations

import pytest

from swarmharness.kernel.codec import encode
from swarmharness.kernel.errors import MalformedMessage
from swarmharness.network.errors import VersionMismatch
from swarmharness.skills.messages import VERSION, OffersMessage, SkillOffer, decode_offers


def told(*offers: SkillOffer, version: int = VERSION, tier: str = "1") -> OffersMessage:
    return decode_offers(encode(OffersMessage(version, tier, offers)))


def offer(
    name: str = "echo", version: str = "1", summary: str = "", kind: str = "plain"
) -> SkillOffer:
    return SkillOffer(name, version, bytes(32), summary, kind, 1)


def test_an_honest_message_is_kept() -> None:
    honest = (offer("echo", summary="Says it again."), offer("übersetzen", "1.0-β", kind="stream"))
    assert told(*honest).skills == honest


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "a\u202eb", "a\u200bb", "ü" * 65])
def test_a_name_that_no_skill_of_ours_could_have_is_malformed(name: str) -> None:
    with pytest.raises(MalformedMessage):
        told(offer(name))


def test_control_characters_elsewhere_are_malformed() -> None:
    for bad in (offer(version="1\x1b"), offer(kind="\x07")):
        with pytest.raises(MalformedMessage):
            told(bad)
    with pytest.raises(MalformedMessage):
        told(tier="\x1b")


def test_one_name_twice_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        told(offer(), offer(version="2"))


def test_a_summary_is_made_printable_and_stays_short() -> None:
    assert told(offer(summary="one\x1b[31m")).skills[0].summary == "one\\x1b[31m"
    assert len(told(offer(summary="\x1b" * 200)).skills[0].summary) == 200


def test_another_version_is_refused_with_both_numbers() -> None:
    with pytest.raises(VersionMismatch, match=f"{VERSION + 1}.*{VERSION}"):
        told(version=VERSION + 1)
