"""Nothing that a terminal obeys comes through, and nothing else is changed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.kernel.printable import printable, printable_line


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("fine\rOVER", "fine\\x0dOVER"),
        ("a\x9bb", "a\\x9bb"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("half\ud800", "half\\ud800"),
        ("two\nlines\tof it", "two\\x0alines\\x09of it"),
    ],
)
def test_what_a_terminal_obeys_is_shown(hostile: str, shown: str) -> None:
    assert printable_line(hostile) == shown


def test_an_output_keeps_its_lines() -> None:
    assert printable("a\n\tb\r\x1b[2J") == "a\n\tb\\x0d\\x1b[2J"


@given(st.text())
def test_no_control_character_survives(text: str) -> None:
    assert not [c for c in printable_line(text) if unicodedata.category(c) in {"Cc", "Cs"}]


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs", "M"])))
def test_words_of_any_language_stay_as_they_are(text: str) -> None:
    assert printable_line(text) == text
