"""The `swarm` command without a node: help, usage, exit statuses, and one envelope for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

COMMANDS = ["init", "up", "down", "status", "id", "skills", "run", "demo"]
pytestmark = pytest.mark.slow


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def envelope(self) -> dict[str, Any]:
        lines = self.out.splitlines()
        assert len(lines) == 1, self
        envelope: dict[str, Any] = json.loads(lines[0])
        assert self.err == ""
        return envelope

    @property
    def error(self) -> dict[str, Any]:
        envelope = self.envelope
        assert set(envelope) == {"schema", "ok", "error"}
        assert (envelope["schema"], envelope["ok"]) == ("swarm.error/1", False)
        assert set(envelope["error"]) == {"code", "blame", "sentence", "hint", "data"}
        assert envelope["error"]["hint"]
        error: dict[str, Any] = envelope["error"]
        return error


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def swarm(
    *arguments: str | Path, stdin: bytes = b"", python: tuple[str, ...] = (), **variables: str
) -> Said:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SWARM_", "PYTHONOPT"))}
    ended = subprocess.run(
        [sys.executable, *python, "-m", "swarmharness.app", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env={**kept, "COLUMNS": "100", **variables},
    )
    return Said(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def test_help_names_every_command_and_each_explains_itself():
    said = swarm("--help")
    assert said.code == 0
    for command in COMMANDS:
        assert f"  {command} " in said.out
    for command in COMMANDS:
        said = swarm(command, "--help")
        assert said.code == 0
        assert "--json" in said.out
        assert "Traceback" not in said.err


def test_the_version_is_told():
    from swarmharness import __version__

    assert swarm("--version") == (0, f"swarmharness {__version__}\n", "")


def test_the_version_is_told_to_programs():
    from swarmharness import __version__

    for arguments in (("--version", "--json"), ("--json", "--version")):
        assert swarm(*arguments).envelope["data"] == {"version": __version__}


def test_a_listening_place_that_is_none_gets_its_own_hint(home: Path):
    said = swarm("--home", home, "up", "--listen", "foo", "--json")
    assert said.error["code"] == "surfaces.listen_malformed"
    assert "HOST:PORT" in said.error["hint"]


@pytest.mark.parametrize("arguments", [("id",), ("status",), ("--version",), ("--help",)])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_full_disk_is_told_in_a_sentence(
    home: Path, arguments: tuple[str, ...], form: tuple[str, ...]
):
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "swarmharness.app", "--home", home, *arguments, *form],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    told = ended.stderr.decode()
    assert "Traceback" not in told
    assert "Exception ignored" not in told
    if (arguments, form) == (("status",), ()):
        assert ended.returncode == 3
    else:
        assert (ended.returncode, told.count("No space left")) == (1, 1)


def test_a_log_that_cannot_be_written_is_told(home: Path):
    (home / "run" / "node.log").mkdir(parents=True)
    said = swarm("--home", home, "up", "--detach", "--json")
    assert (said.code, said.error["code"]) == (1, "node.home_unusable")


def test_nothing_asked_is_usage():
    said = swarm()
    assert said.code == 2
    assert "--help" in said.out + said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("status", "--nonsense"),
        ("run",),
        ("run", "s", "--deadline", "soon"),
        ("run", "s", "--deadline", "0"),
        ("up", "--skills", "/does/not/exist"),
        ("up", "--listen", "nonsense"),
        ("up", "--peer", "127.0.0.1:1"),
        ("demo", "--tasks", "1"),
        ("skills", "\udcff"),
        ("run", "\udcff"),
        ("--home", "", "status"),
    ],
)
def test_a_wrong_command_line_is_refused_for_people_and_programs(
    home: Path, arguments: tuple[str, ...]
):
    said = swarm("--home", home, *arguments, "--json")
    assert said.code == 2
    assert said.error["blame"] == "caller"
    told = swarm("--home", home, *arguments)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("✗ ")
    assert f"[{said.error['code']}]" in told.err
    assert "Traceback" not in told.err
    assert not home.exists(), "a refused command leaves nothing behind"


@pytest.mark.parametrize(
    "arguments", [("status",), ("down",), ("skills",), ("skills", "x"), ("run", "s")]
)
def test_without_a_node_the_status_is_3(home: Path, arguments: tuple[str, ...]):
    said = swarm("--home", home, *arguments, "--json")
    assert said.code == 3
    assert said.error["code"] == "surfaces.node_not_running"
    assert str(home) in said.error["sentence"]
    told = swarm("--home", home, *arguments)
    assert (told.code, told.out) == (3, "")
    assert "swarm up" in told.err


def test_init_makes_a_key_once_and_id_shows_it(home: Path):
    made = swarm("--home", home, "init", "--json")
    assert made.code == 0
    data = made.envelope["data"]
    assert data["home"] == str(home)
    key = (home / "identity" / "node.key").read_bytes()
    for command in ("init", "id"):
        assert swarm("--home", home, command, "--json").envelope["data"] == data
    assert (home / "identity" / "node.key").read_bytes() == key
    told = swarm("--home", home, "id")
    assert told.out == f"{data['id']}\n"
    assert data["short_id"] in told.err


def test_the_environment_names_the_home_and_the_flag_wins(home: Path, tmp_path: Path):
    by_name = swarm("id", "--json", SWARM_HOME=str(home)).envelope["data"]
    assert by_name["home"] == str(home)
    other = swarm("--home", tmp_path / "b", "id", "--json", SWARM_HOME=str(home)).envelope["data"]
    assert other["home"] == str(tmp_path / "b")
    assert other["id"] != by_name["id"]


def test_json_may_stand_before_the_command(home: Path):
    assert swarm("--json", "--home", home, "status").error["code"] == "surfaces.node_not_running"


def test_a_damaged_key_is_refused_and_left_alone(home: Path):
    swarm("--home", home, "init")
    key = home / "identity" / "node.key"
    key.write_bytes(b"short")
    for command in ("id", "init", "up"):
        said = swarm("--home", home, command, "--json")
        assert said.code == 1
        assert said.error["code"] == "node.identity_unsafe"
    assert key.read_bytes() == b"short"


def test_a_wrong_configuration_is_refused_before_anything_starts(home: Path):
    home.mkdir()
    (home / "config.toml").write_text("lisen = 'x'\n")
    for extra in ((), ("--detach",)):
        said = swarm("--home", home, "up", "--json", *extra)
        assert said.code == 2
        assert said.error["code"] == "node.config_invalid"
        assert "listen" in said.error["hint"]


def test_a_home_that_is_a_file_is_refused(home: Path):
    home.write_text("")
    for command in (("init",), ("up",), ("up", "--detach")):
        said = swarm("--home", home, *command, "--json")
        assert said.code == 1
        assert said.error["code"] == "node.home_unusable"


def test_without_assertions_no_node_starts(home: Path):
    said = swarm("--home", home, "up", "--json", python=("-O",))
    assert said.code == 1
    assert said.error["code"] == "node.assertions_disabled"
    said = swarm("--home", home, "up", "--json", PYTHONOPTIMIZE="1")
    assert said.error["code"] == "node.assertions_disabled"
    assert swarm("--home", home, "status", "--json").code == 3


@pytest.mark.parametrize(
    ("text", "stdin"),
    [
        ("{text: 1}", b""),
        ("", b""),
        ('{"a": 1} trailing', b""),
        ("[" * 100_000, b""),
        ("@/does/not/exist", b""),
        ("@/", b""),
        ("-", b"no json"),
        ("-", b""),
        ("-", b'"\xff"'),
    ],
)
def test_input_that_is_no_json_is_refused_before_it_is_sent(home: Path, text: str, stdin: bytes):
    said = swarm("--home", home, "run", "s", "--input", text, "--json", stdin=stdin)
    assert said.code == 2
    assert said.error["code"] == "skills.input_invalid"


def test_input_comes_from_a_file_or_from_stdin(home: Path, tmp_path: Path):
    """Good input gets as far as to ask for the node."""
    (tmp_path / "input.json").write_text('{"text": "ü"}')
    for text in (f"@{tmp_path / 'input.json'}", "-", '{"text": "ü"}'):
        said = swarm("--home", home, "run", "s", "--input", text, "--json", stdin=b"[1]")
        assert said.error["code"] == "surfaces.node_not_running"
