"""The README's shell blocks run as a newcomer would type them: in order, in one shell.

They run in an empty directory in which `.venv` and `examples` are those of this checkout, so that
homes named in the README are made there. What sets up a machine is left out: `make`, `sudo`,
`git clone` and `cd`. Blocks marked `text` are shown, not run.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swarmharness.node.home import Home
from swarmharness.sdk.control_client import read_endpoint

ROOT = Path(__file__).parents[2]
LEFT_OUT = ("make ", "sudo ", "git clone ", "cd ", "#")
STUCK_S = 300  # only a command that never ends takes this long
END_S = 30.0


def shell_lines(text: str) -> list[str]:
    """The commands of all `sh` blocks; a line that goes on in the next one is one command."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not f"{line} ".startswith(LEFT_OUT)]


def run_lines(lines: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """One bash for all lines, which stops at the first failure."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SWARM_", "PYTHON"))}
    environment |= {"HOME": str(place), "XDG_DATA_HOME": str(place / "data"), "PS4": "$ "}
    return subprocess.run(
        ["bash", "-xeuo", "pipefail", "-c", "\n".join(lines)],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=STUCK_S,
    )


def nodes_left(place: Path) -> list[int]:
    return [
        read_endpoint(Home(endpoint.parents[1])).pid for endpoint in place.rglob("endpoint.json")
    ]


def end_nodes(place: Path) -> None:
    for pid in nodes_left(place):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            if not select.select([descriptor], [], [], END_S)[0]:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


@pytest.fixture
def place(tmp_path):
    """Where the blocks run; whatever they leave running is ended."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    yield tmp_path
    end_nodes(tmp_path)


@pytest.fixture
def readme():
    return (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_readme_runs(readme, place):
    lines = shell_lines(readme)
    done = run_lines(lines, place)
    assert done.returncode == 0, done.stdout + done.stderr
    asked_down = sum(" down" in line for line in lines)
    started = [line for line in lines if " up " in line]
    assert asked_down == len(started) >= 2
    assert not nodes_left(place), "the README ends what it starts"
    assert '"word' in done.stdout


def test_nodes_of_the_readme_start_in_the_background(readme):
    attached = [line for line in shell_lines(readme) if " up " in line and "--detach" not in line]
    assert attached == []


def test_every_option_of_the_readme_exists(readme):
    commands = (ROOT / "docs" / "commands.md").read_text()
    options = set(re.findall(r"(?<=\s)--[a-z0-9-]+", "\n".join(swarm_commands(readme))))
    assert {"--home", "--peer", "--skills"} <= options
    assert sorted(option for option in options if option not in commands) == []


def swarm_commands(text: str) -> list[str]:
    """In blocks and in the running text."""
    return re.findall(
        r"(?:swarm(?: --[a-z]+ \w+)? (?:up|run|status|skills|down|init|id)\b[^`\n|]*)", text
    )


PLANTED = """
```sh
# a remark
git clone somewhere here
cd here
make demo
NAME=$(echo ada)
echo "hello \\
  $NAME" > greeting
```
```text
false
```
```sh
test "$(cat greeting)" = "hello    ada"
.venv/bin/swarm --version
ls examples/skills
```
"""


def test_blocks_share_one_shell(place):
    done = run_lines(shell_lines(PLANTED), place)
    assert done.returncode == 0, done.stderr
    assert "swarmharness " in done.stdout


@pytest.mark.parametrize("bad", ["false", ".venv/bin/swarm bogus", "echo $UNSET", "false | true"])
def test_a_command_that_fails_is_noticed(place, bad):
    done = run_lines([bad, "echo never"], place)
    assert done.returncode != 0
    assert "never" not in done.stdout


@pytest.mark.slow
def test_a_node_that_is_left_running_is_noticed_and_ended(place):
    done = run_lines([".venv/bin/swarm --home a up --detach"], place)
    assert done.returncode == 0, done.stderr
    assert len(nodes_left(place)) == 1
    end_nodes(place)
    assert nodes_left(place) == []
