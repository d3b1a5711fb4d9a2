from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from swarmharness.skills.digest import Mode
from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.folder import FolderKind
from swarmharness.skills.io import discovery, listing
from swarmharness.skills.io.discovery import scan
from swarmharness.skills.io.listing import read_listing, signature

CORPUS = Path(__file__).parent / "corpus"


@pytest.fixture
def skills(tmp_path: Path) -> Path:
    directory = tmp_path / "skills"
    make_skill(directory / "greet")
    return directory


def make_skill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "handler.py").write_text("async def handle(input): ...\n")
    (folder / "models.py").write_text("Input = Output = None\n")
    return folder


def only(directory: Path) -> discovery.FoundFolder:
    [found], problems = scan([directory])
    assert problems == []
    return found


def test_the_corpus_is_found_in_order():
    found, problems = scan([CORPUS / "negatives", CORPUS / "skills"])
    assert problems == []
    names = [folder.path.name for folder in found]
    assert names[:3] == ["bad_example", "bad_toml", "broken_edit"]
    assert "_underscore" not in names
    assert "shared" not in names
    kinds = {folder.path.name: folder.kind for folder in found}
    assert kinds["no_models"] is FolderKind.INCOMPLETE
    text = [folder.path.name for folder in found if folder.kind is FolderKind.INSTRUCTIONS]
    assert text == ["skill_md_only"]
    greet = next(folder for folder in found if folder.path.name == "greet")
    beside = [path.name for path in greet.support if path.name != "__pycache__"]
    assert beside == ["_private", "beside.py", "shared"]


def test_a_missing_directory_is_a_sentence_and_the_others_are_read(skills, tmp_path):
    found, problems = scan([tmp_path / "nowhere", skills, skills / "greet" / "handler.py"])
    assert [folder.path.name for folder in found] == ["greet"]
    assert len(problems) == 2
    assert "No such file" in problems[0]


def test_a_linked_skill_is_a_skill(skills, tmp_path):
    real = make_skill(tmp_path / "elsewhere")
    (skills / "linked").symlink_to(real)
    found, _ = scan([skills])
    assert [folder.path.name for folder in found] == ["greet", "linked"]
    before = found[1].signature
    (real / "handler.py").write_text("x = 1\n")
    assert scan([skills])[0][1].signature != before


@pytest.mark.parametrize(
    "change",
    [
        lambda skills: (skills / "greet" / "rules.py").write_text(""),
        lambda skills: (skills / "greet" / "handler.py").write_text("longer than before"),
        lambda skills: (skills / "greet" / "handler.py").chmod(0o700),
        lambda skills: os.utime(skills / "greet" / "handler.py", ns=(1, 1)),
        lambda skills: (skills / "greet" / "models.py").rename(skills / "greet" / "m.py"),
        lambda skills: (skills / "tools.py").write_text(""),
        lambda skills: (skills / "shared").mkdir(),
    ],
)
def test_every_change_changes_the_signature(skills, change):
    before = only(skills).signature
    assert only(skills).signature == before
    change(skills)
    found, _ = scan([skills])
    assert not found or found[0].signature != before


def test_what_is_not_part_of_a_skill_changes_nothing(skills):
    before = only(skills).signature
    (skills / "greet" / "__pycache__").mkdir()
    (skills / "greet" / "__pycache__" / "handler.pyc").write_text("")
    (skills / "greet" / ".git").mkdir()
    (skills / "greet" / ".git" / "index").write_text("")
    (skills / "greet" / "old.pyc").write_text("")
    (skills / "notes.txt").write_text("")
    assert only(skills).signature == before


def test_a_folder_with_too_many_files_says_so(skills, monkeypatch):
    monkeypatch.setattr(listing, "MAX_FILES", 3)
    (skills / "greet" / "a.txt").write_text("")
    assert only(skills).problem == ""
    (skills / "greet" / "b.txt").write_text("")
    assert "more than 3 files" in only(skills).problem


def test_a_huge_neighbour_is_left_out_and_the_skill_stays(skills, monkeypatch):
    monkeypatch.setattr(listing, "MAX_FILES", 3)
    (skills / "venv").mkdir()
    for number in range(4):
        (skills / "venv" / f"{number}.py").write_text("")
    found = only(skills)
    assert (found.problem, found.support) == ("", ())
    assert "venv" in found.warnings[0]


def test_a_neighbour_whose_name_is_not_utf8_is_left_out(skills):
    with open(os.fsencode(skills) + b"/\xff\xfe.py", "w"):  # noqa: PTH123  pathlib knows no bytes
        pass
    found = only(skills)
    assert found.support == ()
    assert found.warnings == (
        "\\udcff\\udcfe.py, beside the skills, is left out: its name is not UTF-8",
    )


def test_a_folder_whose_name_is_not_utf8_is_a_sentence(skills):
    os.rename(skills / "greet", os.fsencode(skills) + b"/\xff")  # noqa: PTH104  pathlib knows no bytes
    found, [problem] = scan([skills])
    assert found == []
    assert problem.endswith("skills/\\udcff is left out: its name is not UTF-8.")


def test_a_skills_directory_whose_name_is_not_utf8_is_a_sentence(skills):
    found, [problem] = scan([Path(os.fsdecode(os.fsencode(skills) + b"\xff"))])
    assert found == []
    assert problem.endswith("skills\\udcff: its name is not UTF-8.")


def test_neighbours_are_bounded(skills, monkeypatch):
    monkeypatch.setattr(discovery, "MAX_SUPPORT", 2)
    for name in "abcd":
        (skills / f"{name}.py").write_text("")
    found = only(skills)
    assert [path.name for path in found.support] == ["a.py", "b.py"]
    assert found.warnings == (
        "c.py, beside the skills, is left out: it comes after the first 2",
        "d.py, beside the skills, is left out: it comes after the first 2",
    )


def test_a_folder_that_cannot_be_opened_says_so(skills, monkeypatch):
    def refuse(root):
        raise PermissionError(13, "Permission denied", str(root / "deep"))

    monkeypatch.setattr(discovery, "signature", refuse)
    found = only(skills)
    assert found.problem.endswith("greet/deep: Permission denied")
    assert found.problem in found.signature


def test_a_directory_with_too_many_entries_is_a_sentence(skills, monkeypatch):
    monkeypatch.setattr(discovery, "MAX_PLACES", 1)
    assert len(scan([skills])[0]) == 1
    make_skill(skills / "second")
    found, problems = scan([skills])
    assert found == []
    assert "over 1 entries" in problems[0]


def test_a_listing_hashes_files_and_does_not_follow_links(skills):
    folder = skills / "greet"
    (folder / "run.sh").write_text("x")
    (folder / "run.sh").chmod(0o755)
    (folder / "deep").mkdir()
    (folder / "deep" / "a.txt").write_text("a")
    (folder / "out").symlink_to("/etc")
    (folder / "secret").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    entries = {entry.path: entry for entry in read_listing(folder)}
    assert sorted(entries) == ["deep/a.txt", "handler.py", "models.py", "out", "run.sh", "secret"]
    assert entries["run.sh"].mode is Mode.EXECUTABLE
    assert entries["deep/a.txt"].mode is Mode.PLAIN
    assert (entries["secret"].mode, entries["secret"].size) == (Mode.LINK, len("/etc/passwd"))


def after_stat_of(name: str, swap: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs `swap` once, between the moment when the walk sees `name` and the one when it opens."""
    original = os.stat

    def stat_then_swap(path, **options):
        status = original(path, **options)
        if path == name:
            monkeypatch.setattr(os, "stat", original)
            swap()
        return status

    monkeypatch.setattr(os, "stat", stat_then_swap)


def test_a_link_that_takes_a_files_place_while_it_is_read_is_refused(skills, monkeypatch):
    path = skills / "greet" / "handler.py"

    def swap() -> None:
        path.unlink()
        path.symlink_to("/etc/passwd")

    after_stat_of("handler.py", swap, monkeypatch)
    with pytest.raises(OSError, match=r"symbolic links.*greet/handler.py"):
        read_listing(skills / "greet")


def test_a_link_that_takes_a_directorys_place_while_it_is_read_is_refused(skills, monkeypatch):
    path = skills / "greet" / "deep"
    path.mkdir()

    def swap() -> None:
        path.rmdir()
        path.symlink_to("/etc")

    after_stat_of("deep", swap, monkeypatch)
    with pytest.raises(NotADirectoryError, match="greet/deep"):
        read_listing(skills / "greet")


def test_a_pipe_that_takes_a_files_place_while_it_is_read_is_refused(skills, monkeypatch):
    path = skills / "greet" / "handler.py"

    def swap() -> None:
        path.unlink()
        os.mkfifo(path)

    after_stat_of("handler.py", swap, monkeypatch)
    with pytest.raises(OSError, match=r"not a regular file.*greet/handler.py"):
        read_listing(skills / "greet")


def test_a_root_that_is_a_link_by_now_is_refused(skills):
    (skills / "linked").symlink_to(skills / "greet")
    with pytest.raises(BadSkillFile, match="linked is neither"):
        read_listing(skills / "linked")


def test_directories_inside_each_other_are_bounded(skills, monkeypatch):
    monkeypatch.setattr(listing, "MAX_DEPTH", 3)
    (skills / "greet" / "a" / "b").mkdir(parents=True)
    assert only(skills).problem == ""
    (skills / "greet" / "a" / "b" / "c").mkdir()
    assert "more than 3 directories inside each other in a/b/c" in only(skills).problem


def test_empty_directories_count(skills, monkeypatch):
    monkeypatch.setattr(listing, "MAX_FILES", 3)
    (skills / "greet" / "a" / "b").mkdir(parents=True)
    assert "more than 3 files and directories" in only(skills).problem


def test_names_that_are_not_unicode(skills):
    path = os.fsencode(skills / "greet") + b"/\xff.txt"
    with open(path, "w") as file:  # noqa: PTH123  pathlib knows no bytes
        file.write("x")
    assert signature(skills / "greet")
    assert len(read_listing(skills / "greet")) == 3


def test_a_folder_over_the_limit_cannot_be_listed(skills, monkeypatch):
    monkeypatch.setattr(listing, "MAX_FILES", 1)
    with pytest.raises(BadSkillFile):
        read_listing(skills / "greet")
