from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from swarmharness.skills.digest import content_digest
from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.io import snapshot as snapshots
from swarmharness.skills.io.listing import read_listing
from swarmharness.skills.io.snapshot import SPARE_SNAPSHOTS, SnapshotStore


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    made = SnapshotStore(tmp_path / "snapshots")
    made.open()
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "skills" / "greet"
    (path / "deep").mkdir(parents=True)
    (path / "handler.py").write_text("one")
    (path / "deep" / "run.sh").write_text("x")
    (path / "deep" / "run.sh").chmod(0o700)
    (path / "inner").symlink_to("deep/run.sh")
    (path / "outer").symlink_to("/etc/passwd")
    (path / ".env").write_text("SECRET=1")
    (path / "__pycache__").mkdir()
    (path / "__pycache__" / "x.pyc").write_text("")
    return path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_snapshot_is_what_its_digest_says_read_only(store, folder):
    taken = store.take(folder)
    assert taken.is_pinned
    assert taken.path.name == taken.digest.hex()
    assert content_digest(read_listing(taken.path)) == taken.digest
    assert content_digest(read_listing(folder)) == taken.digest
    assert names(taken.path) == ["deep", "handler.py", "inner", "outer"]
    assert (taken.path / "outer").is_symlink()
    modes = {
        path.name: stat.S_IMODE(path.lstat().st_mode)
        for path in [taken.path, *taken.path.rglob("*")]
        if not path.is_symlink()
    }
    assert modes == {
        taken.path.name: 0o555,
        "deep": 0o555,
        "handler.py": 0o444,
        "run.sh": 0o555,
    }


def test_the_same_content_is_one_snapshot(store, folder, tmp_path):
    first, second = store.take(folder), store.take(folder)
    assert first == second
    assert names(tmp_path / "snapshots") == [first.digest.hex()]


def test_a_change_leaves_the_earlier_one_as_it_was(store, folder):
    first = store.take(folder)
    (folder / "handler.py").write_text("two")
    second = store.take(folder)
    assert first.digest != second.digest
    assert (first.path / "handler.py").read_text() == "one"
    assert (second.path / "handler.py").read_text() == "two"


def test_a_damaged_snapshot_is_made_again(store, folder):
    taken = store.take(folder)
    (taken.path / "handler.py").chmod(0o644)
    (taken.path / "handler.py").write_text("")
    assert store.take(folder) == taken
    assert (taken.path / "handler.py").read_text() == "one"


def test_the_hash_is_of_the_copy_not_of_a_folder_that_changes_meanwhile(store, folder, monkeypatch):
    original = snapshots._copy_file

    def copy_then_save(item, target):
        size = original(item, target)
        (folder / item.relative).write_text("saved meanwhile")
        return size

    monkeypatch.setattr(snapshots, "_copy_file", copy_then_save)
    taken = store.take(folder)
    assert content_digest(read_listing(taken.path)) == taken.digest
    assert content_digest(read_listing(folder)) != taken.digest


def test_a_directory_swapped_for_a_link_while_it_is_copied_leads_nowhere(
    store, folder, tmp_path, monkeypatch
):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "run.sh").write_text("SECRET")
    (secrets / "zz").write_text("SECRET")
    (folder / "deep" / "a").write_text("a")
    original = snapshots._copy_file

    def copy_then_swap(item, target):
        size = original(item, target)
        if item.relative == "deep/a":
            (folder / "deep").rename(tmp_path / "aside")
            (folder / "deep").symlink_to(secrets)
        return size

    monkeypatch.setattr(snapshots, "_copy_file", copy_then_swap)
    taken = store.take(folder)
    assert {path.name: path.read_text() for path in (taken.path / "deep").iterdir()} == {
        "a": "a",
        "run.sh": "x",
    }


def test_support_that_became_a_link_is_refused(store, folder):
    (folder.parent / "tools.py").symlink_to("/etc/passwd")
    with pytest.raises(BadSkillFile, match=r"tools\.py is neither"):
        store.take_support([folder.parent / "tools.py"])


def test_what_a_crash_left_is_removed_at_the_next_start(store, folder, tmp_path, monkeypatch):
    def crash(root):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "_seal", crash)
        patch.setattr(snapshots, "_remove", lambda root: None)
        with pytest.raises(KeyboardInterrupt):
            store.take(folder)
    assert [name[:5] for name in names(tmp_path / "snapshots")] == [".new-"]
    store.open()
    assert names(tmp_path / "snapshots") == []


def test_a_failed_copy_leaves_nothing(store, folder, tmp_path, monkeypatch):
    def fail(root):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots, "_seal", fail)
    with pytest.raises(OSError, match="No space"):
        store.take(folder)
    assert names(tmp_path / "snapshots") == []


def test_a_large_folder_is_mounted_live(store, folder, tmp_path, monkeypatch):
    listed = list(read_listing(folder))
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.name[0] not in "._")
    size -= (folder / "deep").lstat().st_size
    monkeypatch.setattr(snapshots, "SNAPSHOT_LIMIT", size)
    assert store.take(folder).is_pinned
    monkeypatch.setattr(snapshots, "SNAPSHOT_LIMIT", size - 1)
    taken = store.take(folder)
    assert (taken.is_pinned, taken.path) == (False, folder)
    assert taken.digest == content_digest(listed)


def test_a_file_that_grows_while_it_is_copied_is_refused(store, folder, monkeypatch):
    monkeypatch.setattr(snapshots, "SNAPSHOT_LIMIT", 100)
    monkeypatch.setattr(snapshots, "PIECE", 10)
    original = snapshots._copy_file

    def grow(item, target):
        (folder / item.relative).write_bytes(b"x" * 1000)
        size = original(item, target)
        assert size <= 110
        return size

    monkeypatch.setattr(snapshots, "_copy_file", grow)
    with pytest.raises(BadSkillFile, match="grew"):
        store.take(folder)


def test_support_keeps_its_names(store, folder):
    skills = folder.parent
    (skills / "shared").mkdir()
    (skills / "shared" / "words.py").write_text("w")
    (skills / "tools.py").write_text("t")
    taken = store.take_support([skills / "shared", skills / "tools.py"])
    assert names(taken.path) == ["shared", "tools.py"]
    assert (taken.path / "shared" / "words.py").read_text() == "w"
    alone = store.take_support([skills / "shared"])
    assert alone.digest != taken.digest
    assert names(store.take_support([]).path) == []


def test_live_support_has_the_digest_of_a_pinned_one(store, folder, monkeypatch):
    skills = folder.parent
    (skills / "tools.py").write_text("t")
    pinned = store.take_support([skills / "tools.py"])
    monkeypatch.setattr(snapshots, "SNAPSHOT_LIMIT", 0)
    live = store.take_support([skills / "tools.py"])
    assert (live.digest, live.path, live.is_pinned) == (pinned.digest, skills, False)


def test_garbage_is_bounded_and_what_is_in_use_stays(store, folder, tmp_path):
    taken = []
    for number in range(SPARE_SNAPSHOTS + 3):
        (folder / "handler.py").write_text(str(number))
        taken.append(store.take(folder))
        os.utime(taken[-1].path, ns=(number, number))
    store.collect({taken[0].digest})
    left = set(names(tmp_path / "snapshots"))
    assert left == {t.digest.hex() for t in [taken[0], *taken[-SPARE_SNAPSHOTS:]]}
