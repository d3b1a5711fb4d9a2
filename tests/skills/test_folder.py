from __future__ import annotations

import pytest

from swarmharness.skills.folder import FolderKind, Place, candidates, is_hashed, kind_of, support


def directory(name: str, *children: str, is_link: bool = False) -> Place:
    return Place(name, is_directory=True, is_link=is_link, children=frozenset(children))


SKILL = directory("greet", "handler.py", "models.py")
TEXT = directory("advice", "SKILL.md")
SHARED = directory("shared")


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (SKILL, FolderKind.SKILL),
        (directory("x", "handler.py", "models.py", "SKILL.md"), FolderKind.SKILL),
        (TEXT, FolderKind.INSTRUCTIONS),
        (directory("x", "handler.py", "SKILL.md"), FolderKind.INSTRUCTIONS),
        (directory("x", "handler.py"), FolderKind.INCOMPLETE),
        (directory("x", "models.py"), FolderKind.OTHER),
        (Place("handler.py", is_directory=False), FolderKind.OTHER),
    ],
)
def test_both_files_make_a_skill(place, kind):
    assert kind_of(place) is kind


def test_candidates_are_sorted_directories_without_underscore():
    linked = directory("b", "handler.py", "models.py", is_link=True)
    places = [SKILL, linked, directory("_off"), Place("a.py", is_directory=False), TEXT]
    assert [p.name for p in candidates(places)] == ["advice", "b", "greet"]


def test_support_is_modules_and_directories_that_are_no_skills():
    places = [
        SKILL,
        TEXT,
        SHARED,
        directory("_private", "handler.py", "models.py"),
        directory(".git"),
        directory("__pycache__"),
        directory("elsewhere", is_link=True),
        Place("tools.py", is_directory=False),
        Place("notes.txt", is_directory=False),
        Place(".env.py", is_directory=False),
        Place("linked.py", is_directory=False, is_link=True),
    ]
    assert support(places) == ["_private", "shared", "tools.py"]


@pytest.mark.parametrize("name", [".env", ".git", "__pycache__", "handler.cpython-311.pyc"])
def test_what_is_not_part_of_a_skill(name):
    assert not is_hashed(name)
    assert is_hashed("handler.py")
