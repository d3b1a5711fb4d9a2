from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.skills.guest.frontmatter import FRONT_MATTER_LIMIT, read_front_matter


def test_without_front_matter_all_is_body():
    found = read_front_matter("\n# Title\n\nText --- with dashes.\n")
    assert (found.values, found.body) == ({}, "# Title\n\nText --- with dashes.")
    assert read_front_matter("").body == ""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_fences_are_whole_lines(newline):
    text = newline.join(["---  ", "a: b --- c", "d: '--- e'", "---", "Body", "---", "more"])
    found = read_front_matter("\ufeff" + text)
    assert found.values == {"a": "b --- c", "d": "--- e"}
    assert found.body == newline.join(["Body", "---", "more"])


def test_scalars_stay_text():
    found = read_front_matter(
        "---\nname: no\nversion: 1.10\ndate: 2024-01-01\ntags: [1, yes]\nnested: {a: 0x10}\n---\n"
    )
    assert found.values == {
        "name": "no",
        "version": "1.10",
        "date": "2024-01-01",
        "tags": ["1", "yes"],
        "nested": {"a": "0x10"},
    }
    assert found.warnings == []


def test_a_head_that_never_ends_is_body():
    found = read_front_matter("---\nname: x\n")
    assert (found.values, found.body) == ({}, "---\nname: x")
    assert "closing" in found.warnings[0]


def test_what_is_not_yaml_is_read_by_lines():
    found = read_front_matter(
        "---\nname: x\ndescription: Use this: it helps\n  and goes on\nlicense: 'MIT'\nlong: |\n"
        "  text: here\n---\nBody"
    )
    assert found.values == {
        "name": "x",
        "description": "Use this: it helps and goes on",
        "license": "MIT",
        "long": "text: here",
    }
    assert "read by lines" in found.warnings[0]


def test_aliases_are_refused():
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)
    )
    found = read_front_matter(f"---\n{bomb}---\n")
    assert "aliases" in found.warnings[0]
    assert found.values["a39"] == "&a39 [*a38, *a38]"


def test_tags_build_no_objects():
    found = read_front_matter("---\na: !!python/object/apply:os.getcwd []\nb: !!binary aGk=\n---\n")
    assert all(isinstance(value, str | list) for value in found.values.values())


def test_deep_nesting_is_a_warning():
    found = read_front_matter("---\na: " + "[" * 5_000 + "]" * 5_000 + "\n---\nBody")
    assert found.warnings
    assert found.body == "Body"


def test_the_head_has_a_size_limit():
    padding = "#" * (FRONT_MATTER_LIMIT - len("a: b\n") - 1) + "\n"
    assert read_front_matter(f"---\na: b\n{padding}---\n").values == {"a": "b"}
    found = read_front_matter(f"---\na: b\n#{padding}---\nBody")
    assert (found.values, found.body) == ({}, "Body")
    assert found.warnings


@pytest.mark.parametrize("head", ["- a\n- b", "just text", "1: 2"])
def test_a_head_that_is_no_table_has_no_values(head):
    assert read_front_matter(f"---\n{head}\n---\n").values in ({}, {"1": "2"})


@given(st.text(alphabet="-:[]{}&*!|>'\" \nab#,?%@", max_size=60))
def test_any_head_is_read_without_raising(text):
    found = read_front_matter(f"---\n{text}\n---\nBody")
    assert all(isinstance(key, str) for key in found.values)
