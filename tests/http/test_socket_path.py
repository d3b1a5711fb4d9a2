"""Where the control socket stands: in the home, or in a private place with a shorter name."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmharness.http.server import SOCKET_PATH_LIMIT, socket_path
from swarmharness.node.errors import HomeUnusable
from swarmharness.node.home import Home

DEEP = "d" * SOCKET_PATH_LIMIT


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Not under the test's own directory, whose name is as long as pytest likes.
    with tempfile.TemporaryDirectory(prefix="run-") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield Path(directory)


def test_it_stands_in_the_home_where_the_name_is_short(runtime: Path):
    home = Home(Path("/short"))
    assert socket_path(home) == home.run / "control.sock"
    assert not list(runtime.iterdir())


def test_a_long_home_has_it_in_the_runtime_directory(runtime: Path):
    first, second = (socket_path(Home(runtime / DEEP / name)) for name in "ab")
    assert first != second
    assert first.parent == second.parent == runtime / f"swarmharness-{os.geteuid()}"
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    assert socket_path(Home(runtime / DEEP / "a")) == first


def test_a_long_runtime_directory_is_passed_over(runtime: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / DEEP))
    monkeypatch.setattr(tempfile, "tempdir", str(runtime))
    assert socket_path(Home(runtime / DEEP)).is_relative_to(runtime)


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
def test_a_place_that_others_can_enter_is_refused(runtime: Path, mode: int):
    place = runtime / f"swarmharness-{os.geteuid()}"
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(HomeUnusable, match="Others"):
        socket_path(Home(runtime / DEEP))


def test_a_link_to_another_place_is_refused(runtime: Path):
    (runtime / "elsewhere").mkdir(mode=0o700)
    (runtime / f"swarmharness-{os.geteuid()}").symlink_to(runtime / "elsewhere")
    with pytest.raises(HomeUnusable):
        socket_path(Home(runtime / DEEP))
