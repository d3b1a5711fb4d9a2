"""The home: one process at a time, private, and usable again after a crash."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from swarmharness.node.errors import HomeInUse, HomeUnusable
from swarmharness.node.home import HOME_VARIABLE, Home, default_home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_everything_in_it_is_private(home: Home):
    assert not home.exists()
    home.acquire()
    assert home.exists()
    for directory in (home.path, home.identity, home.run):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    home.release()


def test_a_second_owner_is_refused_until_the_first_has_left(home: Home):
    home.acquire()
    second = Home(home.path)
    for _ in range(2):
        with pytest.raises(HomeInUse, match=str(home.path)):
            second.acquire()
    second.release()  # has nothing to release, and must not take away what is the first's
    home.token.write_text("token")
    with pytest.raises(HomeInUse):
        second.acquire()
    assert home.token.exists()
    home.release()
    second.acquire()
    second.release()


def test_leaving_removes_what_only_a_running_node_has(home: Home):
    home.acquire()
    home.endpoint.write_text("{}")
    home.token.write_text("token")
    home.release()
    home.release()
    assert not home.endpoint.exists()
    assert not home.token.exists()


def test_a_file_is_no_home(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(HomeUnusable):
            Home(path).acquire()


def test_a_lock_that_cannot_be_opened_is_refused(home: Home):
    home.create()
    (home.run / "lock").mkdir()
    with pytest.raises(HomeUnusable, match="locked"):
        home.acquire()


def test_a_port_that_cannot_be_written_is_only_not_remembered(
    home: Home, caplog: pytest.LogCaptureFixture
):
    home.create()
    home.port.symlink_to("/dev/full")
    home.remember_port(4711)
    assert "not remembered" in caplog.text


def test_the_port_of_the_last_start_is_remembered(home: Home):
    home.create()
    assert home.remembered_port() == 0
    home.remember_port(4711)
    assert home.remembered_port() == 4711
    for nonsense in ("", "x", "-1", "65536", "1e3"):
        home.port.write_text(nonsense)
        assert home.remembered_port() == 0


def test_the_environment_names_the_home(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(HOME_VARIABLE, "/somewhere")
    assert default_home() == Path("/somewhere")
    monkeypatch.delenv(HOME_VARIABLE)
    assert default_home().name == "default"
