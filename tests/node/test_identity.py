"""The identity file: made once, refused when it looks wrong, never overwritten."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from swarmharness.node.errors import HomeUnusable, IdentityUnsafe
from swarmharness.node.identity import KEY_FILE, load, load_or_create


def test_the_first_call_makes_the_key_and_later_calls_find_it(tmp_path: Path) -> None:
    first = load_or_create(tmp_path / "identity")
    second = load_or_create(tmp_path / "identity")
    assert first.node_id == second.node_id
    assert stat.S_IMODE((tmp_path / "identity" / KEY_FILE).stat().st_mode) == 0o600
    assert [p.name for p in (tmp_path / "identity").iterdir()] == [KEY_FILE]


@pytest.mark.parametrize(
    ("content", "mode", "word"),
    [
        (b"x" * 32, 0o644, "chmod 600"),
        (b"x" * 32, 0o620, "chmod 600"),
        (b"x" * 31, 0o600, "cut short"),
        (b"", 0o600, "0 bytes"),
        (b"x" * 33, 0o600, "more than 32"),
        (bytes(32), 0o600, "zeros"),
    ],
)
def test_a_wrong_file_is_refused_and_untouched(
    tmp_path: Path, content: bytes, mode: int, word: str
) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(IdentityUnsafe) as refusal:
        load_or_create(tmp_path)
    assert word in refusal.value.sentence + refusal.value.hint
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_a_directory_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    good = load_or_create(tmp_path / "good")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / KEY_FILE).symlink_to(tmp_path / "good" / KEY_FILE)
    with pytest.raises(IdentityUnsafe, match="opened"):
        load_or_create(linked)
    odd = tmp_path / "odd" / KEY_FILE
    odd.mkdir(parents=True)
    with pytest.raises(IdentityUnsafe, match="regular"):
        load_or_create(odd.parent)
    with pytest.raises(IdentityUnsafe, match="opened"):
        load(tmp_path / "nowhere")
    assert load(tmp_path / "good").node_id == good.node_id


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / KEY_FILE, 0o600)
    with pytest.raises(IdentityUnsafe, match="regular"):
        load(tmp_path)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "identity"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(IdentityUnsafe, match="write the directory"):
        load_or_create(directory)
    assert not list(directory.iterdir())
    directory.chmod(0o700)
    load_or_create(directory)
    directory.chmod(mode)
    with pytest.raises(IdentityUnsafe, match="write the directory"):
        load_or_create(directory)


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(HomeUnusable):
        load_or_create(tmp_path / "file" / "identity")


START = """
import sys
from pathlib import Path
from swarmharness.node.identity import load_or_create
sys.stdin.readline()
print(load_or_create(Path(sys.argv[1])).node_id.hex())
"""


def test_starts_at_the_same_time_agree_on_one_key(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START, str(tmp_path / "identity")]
    racers = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(4)]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    found = {racer.communicate()[0] for racer in racers}
    assert len(found) == 1
    assert [path.name for path in (tmp_path / "identity").iterdir()] == [KEY_FILE]


def test_the_seed_never_shows(tmp_path: Path) -> None:
    key = load_or_create(tmp_path)
    assert key.seed.hex() not in repr(key)
