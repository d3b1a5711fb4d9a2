import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmharness.kernel.errors import BadIdentifier, Blame
from swarmharness.kernel.ids import (
    DEVELOPMENT_NETWORK,
    LONG_FORM_LENGTH,
    SHORT_FORM_LENGTH,
    NodeId,
    is_short_form,
    node_id_short,
    node_id_text,
    parse_node_id,
)

SAMPLE = NodeId(bytes(range(32)))
LONG = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypwgdon"
SHORT = "aaaq-eaye-bc"
NETWORK = "7780f3e56148c866ddc548d7fe700f684f28dc5478df6c2b1417e8157cccd5f6"
LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
node_ids = st.binary(min_size=32, max_size=32).map(NodeId)
repeatable = settings(derandomize=True, max_examples=200)


def test_both_forms_are_fixed_for_all_time():
    assert node_id_text(SAMPLE) == LONG
    assert node_id_short(SAMPLE) == SHORT


def test_the_long_form_is_the_key_and_its_checksum():
    raw = base64.b32decode(node_id_text(SAMPLE).upper())
    assert raw == SAMPLE + hashlib.sha256(SAMPLE).digest()[:3]


@repeatable
@given(node_id=node_ids)
def test_the_long_form_is_read_back(node_id):
    text = node_id_text(node_id)
    assert len(text) == LONG_FORM_LENGTH
    assert text == text.lower()
    assert parse_node_id(text) == node_id


@repeatable
@given(
    node_id=node_ids, place=st.integers(0, LONG_FORM_LENGTH - 1), letter=st.sampled_from(LETTERS)
)
def test_one_wrong_letter_is_noticed(node_id, place, letter):
    text = node_id_text(node_id)
    if text[place] == letter:
        return
    with pytest.raises(BadIdentifier, match="checksum"):
        parse_node_id(text[:place] + letter + text[place + 1 :])


@repeatable
@given(text=st.text(max_size=80))
def test_any_text_is_an_id_or_a_typed_refusal(text):
    try:
        assert node_id_text(parse_node_id(text)) == text.lower()
    except BadIdentifier as refusal:
        assert refusal.blame is Blame.CALLER  # noqa: PT017  many texts are ids


@pytest.mark.parametrize("text", ["", "abc", "a" * 55, "a" * 57])
def test_a_wrong_length_is_named(text):
    with pytest.raises(BadIdentifier, match=f"{LONG_FORM_LENGTH} characters.* {len(text)}"):
        parse_node_id(text)


@pytest.mark.parametrize("foreign", ["0", "1", "8", "-", " ", "ä", "=", "ı", "ſ", "\u212a"])
def test_a_foreign_character_is_named(foreign):
    with pytest.raises(BadIdentifier, match="letters a to z"):
        parse_node_id(node_id_text(SAMPLE)[:-1] + foreign)


def test_capitals_are_accepted():
    assert parse_node_id(node_id_text(SAMPLE).upper()) == SAMPLE


@repeatable
@given(node_id=node_ids)
def test_the_short_form_checks_itself(node_id):
    text = node_id_short(node_id)
    assert len(text) == SHORT_FORM_LENGTH
    assert is_short_form(text)


def test_ten_bits_notice_nearly_every_mistyped_short_form():
    text = node_id_short(SAMPLE)
    mistyped = [
        text[:place] + letter + text[place + 1 :]
        for place, old in enumerate(text)
        for letter in LETTERS
        if old not in ("-", letter)
    ]
    missed = sum(is_short_form(text) for text in mistyped)
    assert missed * 100 < len(mistyped)  # one in 1 024 is expected


@pytest.mark.parametrize(
    "text", ["", "aaaa-qdy3-tnzz", "0000-0000-00", "aaaaaaaaaaaa", "----------", "aaaa-aaaa-aä"]
)
def test_other_texts_are_no_short_form(text):
    assert not is_short_form(text)


@repeatable
@given(text=st.text(max_size=14))
def test_is_short_form_never_raises(text):
    assert is_short_form(text) in (True, False)


def test_the_development_network_is_fixed():
    assert DEVELOPMENT_NETWORK.hex() == NETWORK
