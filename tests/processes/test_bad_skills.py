"""Skills that fail in every way: one typed error each, while the node goes on serving."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from processes.yard import NodeProcess, Yard, descendants_of, plain, wait_until, write_skill
from swarmharness.node.home import Home
from swarmharness.sdk.control_client import ControlClient

pytestmark = pytest.mark.slow

STREAM = """
import asyncio

from .models import Input

async def handle(request: Input):
    yield "one"
    yield "separator \\u2028 inside"
    await asyncio.sleep(request.seconds)
    yield "three"
"""
BREAKS_AFTER_A_CHUNK = """
from .models import Input

async def handle(request: Input):
    yield "one"
    raise RuntimeError("no more")
"""
HANDLERS = {
    "echo": plain("return Output(text=request.text)"),
    "stream": STREAM,
    "breaks": BREAKS_AFTER_A_CHUNK,
    "raises": plain('raise ValueError("this is the reason")'),
    "exits": plain("os._exit(3)"),
    "sleeps": plain("await asyncio.sleep(3600)"),
    "spins": plain("while True: pass"),
    "wrong": plain("return {'words': 3}"),
    "private": plain("return Output(text='secret')"),
    "syntax": "def handle(:\n",
    "no_models": plain("return Output(text='')"),
    "same_a": plain("return Output(text='a')"),
    "same_b": plain("return Output(text='b')"),
}
TOML = {
    "sleeps": '[skill]\ndescription = "s"\ntimeout_secs = 0.5\n',
    "spins": '[skill]\ndescription = "s"\ntimeout_secs = 0.5\n',
    "private": '[skill]\ndescription = "p"\n[swarm]\npublish = false\n',
    "same_a": '[skill]\nname = "same"\ndescription = "s"\n',
    "same_b": '[skill]\nname = "same"\ndescription = "s"\n',
    "echo": '[skill]\ndescription = "e"\n[swarm]\nconcurrency = 4\nqueue = 64\n',
}


@pytest.fixture(scope="module")
def nodes(shared_yard: Yard) -> tuple[NodeProcess, NodeProcess]:
    """A server of bad skills, and its client."""
    directory = shared_yard.directory / "skills"
    for name, handler in HANDLERS.items():
        write_skill(directory, name, handler, toml=TOML.get(name, ""))
    (directory / "no_models" / "models.py").write_text("")
    server = shared_yard.up("server", skills=directory)
    return server, shared_yard.up("client", "--peer", server.address)


@pytest.mark.parametrize(
    ("skill", "value", "code", "status"),
    [
        ("echo", {"text": []}, "skills.input_invalid", 2),
        ("absent", {}, "tasks.nobody_offers", 1),
        ("raises", {}, "skills.handler_failed", 1),
        ("exits", {}, "skills.sandbox_lost", 1),
        ("sleeps", {}, "skills.run_timeout", 6),
        ("spins", {}, "skills.run_timeout", 6),
        ("wrong", {}, "skills.output_invalid", 1),
        ("private", {}, "tasks.nobody_offers", 1),
        ("syntax", {}, "tasks.nobody_offers", 1),
    ],
)
def test_the_caller_gets_one_typed_error(
    nodes: tuple[NodeProcess, NodeProcess], skill: str, value: object, code: str, status: int
):
    server, client = nodes
    for options in ((), ("--stream",)):
        answer = client.run(skill, value, *options)
        error = answer.error
        attempts = error["data"].get("attempts", [])
        assert code in {error["code"], *(attempt["code"] for attempt in attempts)}, error
        assert answer.code == status
        assert answer.err == ""
    told = client.swarm("run", skill, "--input", json.dumps(value))
    assert told.code == status
    assert told.out == ""
    assert f"[{error['code']}]" in told.err
    assert client.run("echo", {"text": "still here"}).data["output"] == {"text": "still here"}
    assert server.process.poll() is None


def test_a_handlers_exception_says_why(nodes: tuple[NodeProcess, NodeProcess]):
    error = nodes[1].run("raises").error
    assert "this is the reason" in error["sentence"] + str(error["data"])


def test_invalid_input_names_the_field(nodes: tuple[NodeProcess, NodeProcess]):
    detail = nodes[1].run("echo", {"text": []}).error["data"]["detail"]
    assert detail[0]["loc"] == ["text"]
    told = nodes[1].swarm("run", "echo", "--input", '{"text": []}')
    assert "text:" in told.err


def test_an_unpublished_skill_runs_here_and_nowhere_else(nodes: tuple[NodeProcess, NodeProcess]):
    server, client = nodes
    assert server.run("private").data["output"] == {"text": "secret"}
    assert server.nodes_offering("private") == ["here"]
    assert not client.nodes_offering("private")
    assert client.swarm("skills", "private", "--json").error["code"] == "tasks.nobody_offers"


def test_refused_folders_are_shown_with_their_reason(nodes: tuple[NodeProcess, NodeProcess]):
    shown = {Path(one["folder"]).name: one for one in nodes[0].swarm("skills", "--json").data}
    for folder in ("syntax", "no_models"):
        assert shown[folder]["state"] == "broken"
        assert shown[folder]["reason"]
    assert "models.py" in shown["no_models"]["reason"]
    same = [shown["same_a"], shown["same_b"]]
    assert sorted(one["state"] for one in same) == ["broken", "serving"]
    assert nodes[0].status().skills_refused == 3
    answer = nodes[0].run("syntax")
    assert answer.error["code"] == "skills.skill_broken"
    assert answer.code == 1


def test_a_stream_is_told_line_by_line(nodes: tuple[NodeProcess, NodeProcess]):
    answer = nodes[1].run("stream", {}, "--stream")
    assert {line["schema"] for line in answer.lines} == {"swarm.run.update/1"}
    texts = [line["data"]["text"] for line in answer.lines if line["data"]["type"] == "chunk"]
    assert texts == ["one", "separator \u2028 inside", "three"]
    collected = nodes[1].run("stream").data
    assert (collected["output"], collected["chunks"]) == (None, texts)
    told = nodes[1].swarm("run", "stream")
    assert told.out == "".join(f"{text}\n" for text in texts)


def test_a_failure_in_mid_stream_is_the_last_line(nodes: tuple[NodeProcess, NodeProcess]):
    answer = nodes[1].run("breaks", {}, "--stream")
    assert [line["data"]["type"] for line in answer.lines[:-1]] == ["offered", "accepted", "chunk"]
    assert answer.error["code"] == "skills.handler_failed"
    assert answer.code == 1


def test_a_caller_who_leaves_in_mid_stream_ends_the_task(nodes: tuple[NodeProcess, NodeProcess]):
    server, client = nodes
    running = client.begin_run("stream", {"seconds": 600})
    running.until("chunk")
    assert server.status().tasks.running == 1
    running.process.kill()
    wait_until(lambda: client.status().tasks.submitted_open == 0)
    wait_until(lambda: server.status().tasks.running == 0)


def test_a_deadline_ends_the_task_everywhere(nodes: tuple[NodeProcess, NodeProcess]):
    server, client = nodes
    answer = client.run("stream", {"seconds": 600}, "--deadline", "1")
    assert answer.code == 6
    assert answer.error["code"] in {"tasks.deadline_passed", "skills.run_timeout"}
    wait_until(lambda: server.status().tasks.running == 0)


async def test_many_tasks_leave_nothing_behind(nodes: tuple[NodeProcess, NodeProcess]):
    server, client = nodes
    async with ControlClient(Home(client.home)) as node:

        async def burst(count: int) -> None:
            outputs = await asyncio.gather(
                *(node.run("echo", json.dumps({"text": str(n)}).encode()) for n in range(count))
            )
            assert [one["output"]["text"] for one in outputs] == [str(n) for n in range(count)]

        await burst(40)
        before = [one.descriptors() for one in nodes]
        children = len(list(descendants_of(server.process.pid)))
        await burst(200)
        after = [one.descriptors() for one in nodes]
        status = await node.status()
    async with ControlClient(Home(server.home)) as node:
        assert (await node.status()).tasks.running == 0
    assert after[0] <= before[0] + 4
    # The burst holds more connections to the control socket at a time than the one before.
    assert after[1] <= before[1] + 200
    assert client.descriptors() <= before[1] + 4
    assert len(list(descendants_of(server.process.pid))) <= children + 2
    assert status.tasks.submitted_open == 0
