from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from swarmharness.skills.errors import SandboxUnavailable
from swarmharness.skills.sandbox import scratch
from swarmharness.skills.sandbox.scratch import PREFIX, ScratchDirectory, sweep


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch.sweep_once.cache_clear()
    return tmp_path


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_what_a_killed_node_left_is_swept_before_the_first_use(place: Path) -> None:
    left = place / f"{PREFIX}left"
    (left / "deep").mkdir(parents=True)
    (left / "deep").chmod(0)
    (place / "other").mkdir()
    made = ScratchDirectory(os.geteuid())
    assert names(place) == ["other", Path(made.path).name]
    made.remove()
    assert names(place) == ["other"]


def test_what_is_in_use_stays(place: Path) -> None:
    made = ScratchDirectory(os.geteuid())
    sweep(place)
    assert Path(made.path).is_dir()
    made.remove()


def test_only_directories_of_this_user_are_swept(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / f"{PREFIX}a").mkdir()
    (place / f"{PREFIX}link").symlink_to(place)
    (place / f"{PREFIX}file").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)
        sweep(place)
    assert names(place) == [f"{PREFIX}a", f"{PREFIX}file", f"{PREFIX}link"]
    sweep(place)
    assert names(place) == [f"{PREFIX}file", f"{PREFIX}link"]


def test_a_place_that_cannot_be_listed_is_logged_and_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    scratch.sweep_once()
    assert "not swept" in caplog.text


def test_one_sweep_is_bounded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "MAX_SWEPT", 2)
    for number in range(3):
        (place / f"{PREFIX}{number}").mkdir()
    sweep(place)
    assert len(names(place)) == 1


def test_a_directory_that_is_swept_before_it_is_locked_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, made = tempfile.mkdtemp, []

    def make_and_lose(prefix: str) -> str:
        made.append(original(prefix=prefix))
        if len(made) == 1:
            shutil.rmtree(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    kept = ScratchDirectory(os.geteuid())
    assert len(made) == 2
    assert kept.path == made[1]
    kept.remove()


def test_who_loses_every_directory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_locked", lambda path: None)
    with pytest.raises(SandboxUnavailable, match="scratch"):
        ScratchDirectory(os.geteuid())


def test_a_directory_that_refuses_to_go_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: str) -> None:
        raise RecursionError("too deep")

    made = ScratchDirectory(os.geteuid())
    monkeypatch.setattr(shutil, "rmtree", refuse)
    with caplog.at_level(logging.WARNING):
        made.remove()
    assert "too deep" in caplog.text
