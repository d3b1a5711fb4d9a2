"""Nodes as real processes: starting, finding each other, failing over, ending, being killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from processes.yard import Yard, plain, wait_until, write_skill
from swarmharness.node.node import DRAIN_MS

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples" / "skills"
QUICK = plain("return Output(text=request.text.upper())")
SLEEPS = plain("""
    await asyncio.sleep(request.seconds)
    return Output(text=request.text.upper())
""")
FOREVER = {"seconds": 600}
LESS_THAN_A_DRAIN_S = DRAIN_MS / 1000 - 2
"""A node that takes longer than this has not been hurried: it waited for the drain to run out."""


def skills_of(yard: Yard, name: str, **handlers: str) -> Path:
    directory = yard.directory / f"{name}-skills"
    for skill, handler in handlers.items():
        write_skill(directory, skill, handler)
    return directory


def test_two_homes_by_hand(yard: Yard):
    """As the README's first page says it."""
    a, b = yard.directory / "a", yard.directory / "b"
    up = yard.swarm(a, "up", "--detach", "--skills", str(EXAMPLES), "--json").data
    try:
        status = yard.swarm(a, "status", "--json").data
        assert (status["pid"], status["id"]) == (up["pid"], up["id"])
        address = status["addresses"][0]
        assert address.startswith("tls://")
        said = yard.swarm(b, "up", "--detach", "--peer", address)
        assert (said.code, said.out) == (0, "")
        assert "swarm status" in said.err
        try:
            run = yard.swarm(b, "run", "text_stats", "--input", '{"text":"hello world"}')
            assert run.code == 0, run.err
            assert json.loads(run.out)["words"] == 2
            assert status["short_id"] in run.err
            assert yard.swarm(a, "status", "--json").data["tasks"]["run_completed"] == 1
        finally:
            assert yard.swarm(b, "down").code == 0
    finally:
        assert yard.swarm(a, "down", "--json").data["pid"] == up["pid"]
    assert yard.swarm(a, "status", "--json").error["code"] == "surfaces.node_not_running"
    assert not Path(f"/proc/{up['pid']}").exists() or _is_zombie(up["pid"])
    assert sorted(path.name for path in (a / "run").iterdir()) == ["lock", "node.log"]
    assert "ERROR" not in (a / "run" / "node.log").read_text()


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_task_survives_the_death_of_its_executor(yard: Yard):
    first = yard.up("first", skills=skills_of(yard, "first", job=SLEEPS))
    submitter = yard.up("submitter", "--peer", first.address)
    running = submitter.begin_run("job", {"text": "done", **FOREVER})
    assert running.until("accepted")["short_node"] == first.short_id
    sandboxes = first.descendants()
    assert sandboxes, "the task runs in a process"
    # Its twin is quicker, so that the test can tell them apart and need not wait.
    second = yard.up("second", "--peer", submitter.address, skills=skills_of(yard, "b", job=QUICK))
    wait_until(lambda: len(submitter.nodes_offering("job")) == 2)
    first.signal(signal.SIGKILL)
    moved = running.until("moved")
    assert (moved["short_node"], moved["code"]) == (first.short_id, "network.connection_lost")
    completed = running.until("completed")
    assert completed["short_node"] == second.short_id
    assert (completed["attempts"], completed["failures"]) == (2, 1)
    assert completed["output"] == {"text": "DONE"}
    assert running.end().code == 0
    first.wait()
    for sandbox in sandboxes:
        sandbox.wait()  # nothing outlives its node
    assert submitter.status().tasks.submitted_completed == 1
    # The dead node's home is as good as new, and the node keeps its address.
    again = yard.up("first", skills=yard.directory / "first-skills")
    assert (again.address, again.short_id) == (first.address, first.short_id)
    assert again.run("job", {"text": "back"}).data["output"] == {"text": "BACK"}


def test_without_retry_nothing_runs_twice(yard: Yard):
    directory = skills_of(yard, "both", job=SLEEPS)
    a, b = (yard.up(name, skills=directory) for name in ("a", "b"))
    submitter = yard.up("submitter", "--peer", a.address, "--peer", b.address)
    running = submitter.begin_run("job", FOREVER, "--no-retry")
    victim, other = (a, b) if running.until("accepted")["short_node"] == a.short_id else (b, a)
    victim.signal(signal.SIGKILL)
    answer = running.end()
    assert answer.code == 1
    assert answer.error["code"] == "network.connection_lost"
    tasks = other.status().tasks
    assert (tasks.running, tasks.run_completed, tasks.run_failed) == (0, 0, 0)
    victim.wait()


def test_one_home_has_one_node(yard: Yard):
    node = yard.up("a")
    for extra in ((), ("--detach",)):
        second = node.swarm("up", "--json", *extra)
        assert second.code == 1
        assert second.error["code"] == "node.home_in_use"
        assert node.status().pid == node.process.pid, "the first is left in peace"
    told = node.swarm("up", "--detach")
    assert (told.code, told.out) == (1, "")
    assert "[node.home_in_use]" in told.err


def test_ctrl_c_lets_running_tasks_end(yard: Yard):
    node = yard.up("a", skills=skills_of(yard, "a", job=SLEEPS))
    running = node.begin_run("job", {"text": "done", "seconds": 1.5})
    running.until("accepted")
    node.signal(signal.SIGINT)
    assert running.until("completed")["output"] == {"text": "DONE"}
    assert running.end().code == 0
    assert node.wait() == 0


def test_a_draining_node_says_so_and_takes_nothing_new(yard: Yard):
    node = yard.up("a", skills=skills_of(yard, "a", job=SLEEPS))
    running = node.begin_run("job", FOREVER)
    running.until("accepted")
    started = node.descendants()
    node.signal(signal.SIGINT)
    wait_until(lambda: node.status().is_draining)
    assert node.swarm("status", "--json").code == 5
    refused = node.run("job")
    assert (refused.code, refused.error["code"]) == (4, "node.shutting_down")
    node.signal(signal.SIGINT)
    answer = running.end()
    assert answer.code != 0
    assert answer.error["code"] in {"skills.run_cancelled", "tasks.attempts_exhausted"}
    assert node.process.wait(LESS_THAN_A_DRAIN_S) == 0
    for process in started:
        process.wait()


def test_a_second_ctrl_c_also_leaves_peers_tasks(yard: Yard):
    """Both at once: what runs here for a peer, and what a peer runs for us."""
    a = yard.up("a", skills=skills_of(yard, "a", job=SLEEPS))
    b = yard.up("b", "--peer", a.address, skills=skills_of(yard, "b", other=SLEEPS))
    there = b.begin_run("job", FOREVER)
    there.until("accepted")
    here = a.begin_run("other", FOREVER)
    here.until("accepted")
    a.signal(signal.SIGINT)
    wait_until(lambda: a.status().is_draining)
    a.signal(signal.SIGTERM)
    assert a.process.wait(LESS_THAN_A_DRAIN_S) == 0
    assert here.end().error["code"]
    assert there.end().error["code"]
    wait_until(lambda: b.status().tasks.running == 0)


def test_the_listening_address_is_taken(yard: Yard):
    a = yard.up("a")
    place = a.address.rpartition("@")[2]
    answer = yard.swarm(yard.directory / "b", "up", "--listen", place, "--json")
    assert answer.code == 1
    assert answer.error["code"] == "node.listen_failed"


def test_a_named_peer_may_come_later(yard: Yard):
    a = yard.up("a", skills=skills_of(yard, "a", job=QUICK))
    assert a.stop() == 0
    b = yard.up("b", "--peer", a.address)
    (peer,) = b.status().peers
    assert peer.state in {"waiting", "dialling"}
    assert peer.problem
    assert b.run("job").error["code"] == "tasks.nobody_offers"
    again = yard.up("a", skills=yard.directory / "a-skills")
    assert again.address == a.address
    wait_until(lambda: bool(b.nodes_offering("job")))
    assert b.run("job", {"text": "x"}).data["output"] == {"text": "X"}


def test_down_without_tasks_is_quick_and_clean(yard: Yard):
    a = yard.up("a", skills=skills_of(yard, "a", job=QUICK))
    assert a.run("job").code == 0
    started = a.descendants()
    assert a.swarm("down", "--json").data["pid"] == a.process.pid
    assert a.wait() == 0
    for process in started:
        process.wait()
    assert a.swarm("down", "--json").error["code"] == "surfaces.node_not_running"


def test_the_demo_loses_nothing(yard: Yard):
    before = set(Path("/dev/shm").iterdir())
    answer = yard.swarm(yard.directory / "none", "demo", "--json", "--tasks", "40")
    assert answer.code == 0, (answer.out, answer.err)
    assert answer.lines[-1]["schema"] == "swarm.demo/1"
    report = answer.data
    assert {"nodes", "p50_ms", "p99_ms", "seconds", "sandbox_tier"} <= set(report)
    assert report["tasks_submitted"] == report["tasks_completed"] == 40
    assert report["failovers"] >= 1
    assert report["nodes"] == 5
    assert sum(report["work_by_node"].values()) == 40
    assert len(report["work_by_skill"]) >= 5
    assert not (yard.directory / "none").exists()
    assert set(Path("/dev/shm").iterdir()) <= before
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if _works_in(pid, yard.temporary)]


def _works_in(process: Path, directory: Path) -> bool:
    try:
        return os.fsencode(directory) in (process / "environ").read_bytes()
    except OSError:
        return False
