from __future__ import annotations

from pathlib import Path

import pytest

from swarmharness.skills.guest.call_directory import CallDirectory


@pytest.mark.parametrize("closed", ["", "out", "deep", "deep/deeper"])
def test_a_directory_without_permissions_goes(tmp_path: Path, closed: str) -> None:
    directory = CallDirectory(tmp_path / "call")
    (directory.path / "deep" / "deeper").mkdir(parents=True)
    (directory.path / "deep" / "deeper" / "file").write_text("left by the call")
    (directory.out / "file").write_text("left by the call")
    (directory.path / closed).chmod(0)
    assert directory.wipe()
    assert not directory.path.exists()


def test_opening_up_stays_inside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    directory = CallDirectory(tmp_path / "call")
    (directory.path / "link").symlink_to(outside)
    assert directory._wipe_stubborn()
    assert not directory.path.exists()
    assert outside.stat().st_mode & 0o777 == 0o500


def test_a_directory_that_refuses_to_go_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    directory = CallDirectory(tmp_path / "call")
    monkeypatch.setattr("shutil.rmtree", refuse)
    assert not directory.wipe()
