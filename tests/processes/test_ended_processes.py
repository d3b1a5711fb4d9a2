"""However a command is ended, nothing that it started outlives it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from processes.yard import Held, Talk, Yard, descendants_of, plain, wait_until, write_skill

pytestmark = pytest.mark.slow

NODES = 6
SANDBOXES = 10


def nodes_of(demo: Talk) -> list[int]:
    found = []
    for pid in descendants_of(demo.process.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--until-stdin-ends" in words:
            found.append(pid)
    return found


def held_under(yard: Yard, talk: Talk) -> list[Held]:
    held = []
    for pid in list(descendants_of(talk.process.pid)):
        try:
            held.append(Held(pid))
        except ProcessLookupError:
            continue
    yard.held += held
    return held


def demo_with(yard: Yard, nodes: int) -> Talk:
    demo = yard.begin(yard.directory / "none", "demo", "--json", "--tasks", "5000")
    wait_until(lambda: len(nodes_of(demo)) >= nodes)
    if nodes == NODES:  # at work, in sandboxes of their own
        wait_until(lambda: len(list(descendants_of(demo.process.pid))) >= SANDBOXES + NODES)
    return demo


@pytest.mark.parametrize("nodes", [1, NODES])
@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        (signal.SIGTERM, 143, "surfaces.terminated"),
        (signal.SIGHUP, 143, "surfaces.terminated"),
        (signal.SIGINT, 130, "surfaces.interrupted"),
    ],
)
def test_a_demo_that_is_ended_leaves_nothing(
    yard: Yard, nodes: int, number: signal.Signals, status: int, code: str
):
    demo = demo_with(yard, nodes)
    started = held_under(yard, demo)
    demo.process.send_signal(number)
    answer = demo.end()
    assert (answer.code, answer.error["code"]) == (status, code)
    for process in started:
        process.wait()
    assert list(yard.temporary.iterdir()) == []


@pytest.mark.parametrize("nodes", [1, NODES])
def test_the_nodes_of_a_demo_that_is_killed_end_by_themselves(yard: Yard, nodes: int):
    demo = demo_with(yard, nodes)
    started = held_under(yard, demo)
    demo.process.kill()
    demo.process.wait()
    for process in started:
        process.wait()
    for left in yard.temporary.iterdir():
        for directory, _, _ in os.walk(left):
            Path(directory).chmod(0o700)
        shutil.rmtree(left)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_ended_while_it_starts_leaves_nothing(yard: Yard, number: signal.Signals):
    """Its one skill takes for ever to describe itself, so the start cannot get done."""
    models = "import time\nprint('started', flush=True)\ntime.sleep(600)\n"
    skills = yard.directory / "skills"
    write_skill(skills, "slow", plain("return Output(text='')"), models=models)
    home = yard.directory / "home"
    node = yard.begin(home, "up", "--json", "--skills", str(skills))
    sandboxes: list[int] = []

    def has_begun() -> bool:
        sandboxes[:] = [pid for pid in descendants_of(node.process.pid) if is_python(pid)]
        return bool(sandboxes)

    wait_until(has_begun)
    started = held_under(yard, node)
    node.process.send_signal(number)
    answer = node.end()
    assert answer.code == (143 if number is signal.SIGTERM else 130)
    assert answer.error["code"] in {"surfaces.terminated", "surfaces.interrupted"}
    for process in started:
        process.wait()
    assert {path.name for path in (home / "run").iterdir()} <= {"lock", "node.log"}
    assert "Traceback" not in (yard.directory / "home.err").read_text()


def is_python(pid: int) -> bool:
    """Below a node, only the process that runs a skill."""
    try:
        return Path(f"/proc/{pid}/exe").resolve() == Path(sys.executable).resolve()
    except OSError:
        return False
