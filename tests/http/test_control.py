"""The routes over a node that only answers: what goes in, what comes out, and how errors look."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from swarmharness.http import control
from swarmharness.http.control import NDJSON, control_app
from swarmharness.http.problem import MEDIA_TYPE
from swarmharness.kernel.errors import BadIdentifier, SwarmError
from swarmharness.kernel.ids import NodeId, node_id_text
from swarmharness.node.api import NodeStatus, SkillStatus, TaskCounts
from swarmharness.skills.errors import HandlerFailed, Overloaded
from swarmharness.tasks.errors import NobodyOffers
from swarmharness.tasks.messages import UsageMessage
from swarmharness.tasks.task import MAX_DEADLINE_MS, TaskId, TaskRequest
from swarmharness.tasks.update import (
    TaskAccepted,
    TaskArtifact,
    TaskChunk,
    TaskCompleted,
    TaskMoved,
    TaskOffered,
    TaskProgress,
    TaskUpdate,
)

A, B = NodeId(bytes(32)), NodeId(bytes([1]) * 32)
STATUS = NodeStatus(
    id="long",
    short_id="short",
    version="0",
    pid=1,
    home="/home",
    addresses=("tls://x",),
    uptime_s=1.5,
    sandbox_tier="1",
    sandbox="sandbox",
    skills_serving=1,
    skills_refused=0,
    peers=(),
    tasks=TaskCounts(
        submitted_open=0,
        submitted_completed=0,
        submitted_failed=0,
        running=0,
        run_completed=0,
        run_failed=0,
    ),
    is_draining=False,
)


def completed(output: bytes | None, node: NodeId = A, failures: int = 0) -> TaskCompleted:
    return TaskCompleted(TaskId(bytes(16)), node, failures + 1, failures, output, UsageMessage())


class FakeNode:
    """Plays the updates that a test gives it; an exception among them is raised."""

    def __init__(self, *script: TaskUpdate | Exception | Callable[[], Any]) -> None:
        self.script = script
        self.requests: list[TaskRequest] = []
        self.peers: list[str] = []
        self.was_shut_down = False
        self.has_closed = asyncio.Event()

    async def status(self) -> NodeStatus:
        return STATUS

    async def skills(self) -> list[SkillStatus]:
        return [SkillStatus(name="s", node="here", state="serving")]

    async def describe(self, skill: str) -> dict[str, Any]:
        if skill == "fault":
            raise RuntimeError("the secret reason")
        if skill == "absent":
            raise NobodyOffers("Nobody offers it.")
        return {"name": skill}

    async def run(self, request: TaskRequest) -> AsyncIterator[TaskUpdate]:
        self.requests.append(request)
        try:
            for step in self.script:
                if isinstance(step, Exception):
                    raise step
                if callable(step):
                    await step()
                else:
                    yield step
        finally:
            self.has_closed.set()

    async def name_peer(self, address: str) -> None:
        self.peers.append(address)

    def find_node(self, text: str) -> NodeId:
        if text == "bad":
            raise BadIdentifier("No id.")
        return B

    def request_shutdown(self) -> None:
        self.was_shut_down = True


async def ask(node: FakeNode, method: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=control_app(node), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        return await client.request(method, path, **options)


async def post_task(node: FakeNode, *, accept: str = "*/*", **body: Any) -> httpx.Response:
    body = {"skill": "s", "input": {}, **body}
    return await ask(node, "POST", "/api/v1/tasks", json=body, headers={"Accept": accept})


def problem_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == MEDIA_TYPE
    problem: dict[str, Any] = response.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "blame", "hint", "data"}
    assert problem["type"] == f"urn:swarmharness:error:{problem['code']}"
    assert problem["status"] == response.status_code
    return problem


async def test_what_is_asked_is_answered():
    node = FakeNode()
    assert (await ask(node, "GET", "/healthz")).json() == {"ok": True}
    status = (await ask(node, "GET", "/api/v1/status")).json()
    assert (status["short_id"], status["tasks"]["running"]) == ("short", 0)
    assert (await ask(node, "GET", "/api/v1/skills")).json()[0]["name"] == "s"
    assert (await ask(node, "GET", "/api/v1/skills/a/b c")).json() == {"name": "a/b c"}
    await ask(node, "POST", "/api/v1/peers", json={"address": "tls://x"})
    assert node.peers == ["tls://x"]
    await ask(node, "POST", "/api/v1/shutdown")
    assert node.was_shut_down


async def test_a_task_becomes_the_request_that_was_meant():
    node = FakeNode(completed(b"1"))
    await post_task(node, input={"x": [1, 2.5]}, on="short", deadline_ms=5, retry=False)
    (request,) = node.requests
    assert json.loads(request.input) == {"x": [1, 2.5]}
    assert (request.skill, request.on, request.deadline_ms, request.retry) == ("s", B, 5, False)


async def test_numbers_and_text_travel_undecoded():
    node = FakeNode(completed(b'{"n": 123456789012345678901234567890, "f": 1e300}'))
    body = b'{"skill":"s","input": {"n": 123456789012345678901234567890}}'
    kind = {"Content-Type": "application/json"}
    response = await ask(node, "POST", "/api/v1/tasks", content=body, headers=kind)
    assert node.requests[0].input.strip() == b'{"n": 123456789012345678901234567890}'
    assert b'{"n": 123456789012345678901234567890, "f": 1e300}' in response.content


async def test_one_answer_holds_the_last_attempt_only():
    content = b"file"
    artifact = TaskArtifact("f", "text/plain", hashlib.sha256(content).digest(), content)
    node = FakeNode(
        TaskOffered(A, 1),
        TaskAccepted(A),
        TaskChunk(0, b'"void"', "void"),
        artifact,
        TaskMoved(A, "x.y", "Gone."),
        TaskOffered(B, 2),
        TaskAccepted(B),
        TaskProgress(500, "half"),
        TaskChunk(0, b'"kept"', "kept"),
        artifact,
        completed(None, B, failures=1),
    )
    answer = (await post_task(node)).json()
    assert (answer["output"], answer["chunks"]) == (None, ["kept"])
    assert (answer["node"], answer["attempts"], answer["failures"]) == (node_id_text(B), 2, 1)
    (file,) = answer["artifacts"]
    assert base64.b64decode(file["content_base64"]) == content
    assert node.has_closed.is_set()


async def test_a_stream_tells_each_update_on_a_line():
    node = FakeNode(
        TaskOffered(A, 1),
        TaskAccepted(A),
        TaskProgress(250, "quarter"),
        TaskChunk(0, b'{"a":\r\n[1,\n2]}', "text"),
        TaskMoved(A, "x.y", "Gone."),
        completed(b'"end"'),
    )
    response = await post_task(node, accept=NDJSON)
    assert response.headers["content-type"].startswith(NDJSON)
    lines = [json.loads(line) for line in response.content.split(b"\n") if line]
    kinds = [line["type"] for line in lines]
    assert kinds == ["offered", "accepted", "progress", "chunk", "moved", "completed"]
    assert lines[2]["fraction"] == 0.25
    assert lines[3]["value"] == {"a": [1, 2]}
    assert lines[-1]["output"] == "end"


@pytest.mark.parametrize("accept", ["*/*", NDJSON])
async def test_a_refusal_before_the_first_update_keeps_its_status(accept: str):
    response = await post_task(FakeNode(NobodyOffers("Nobody.")), accept=accept)
    assert response.status_code == 404
    assert problem_of(response)["code"] == "tasks.nobody_offers"


async def test_a_failure_in_mid_stream_is_the_last_line():
    error = HandlerFailed("It failed.", data={"message": "why"})
    node = FakeNode(TaskOffered(A, 1), TaskAccepted(A), error)
    response = await post_task(node, accept=NDJSON)
    assert response.status_code == 200
    last = json.loads(response.content.split(b"\n")[-2])
    assert last["type"] == "error"
    assert (last["code"], last["detail"], last["blame"]) == (error.code, "It failed.", "peer")
    assert last["data"] == {"message": "why"}


async def test_a_failure_before_one_answer_is_a_problem():
    node = FakeNode(TaskOffered(A, 1), HandlerFailed("It failed."))
    response = await post_task(node)
    assert response.status_code == HandlerFailed.http_status
    assert problem_of(response)["detail"] == "It failed."


async def test_fullness_says_when_to_come_back():
    response = await post_task(FakeNode(Overloaded("Full.")))
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no json",
        b"[]",
        b'{"skill": "s"}',
        b'{"skill": 1, "input": {}}',
        b'{"skill": "s", "input": {}, "unknown": 1}',
        b'{"skill": "s", "input": nul}',
        b'{"skill": "s", "input": {}} trailing',
        b'{"skill": "s", "input": {}, "deadline_ms": 0}',
        b'{"skill": "s", "input": {}, "deadline_ms": %d}' % (MAX_DEADLINE_MS + 1),
        b'{"skill": "s", "input": {}, "deadline_ms": 1e400}',
        b'{"skill": "s", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"skill": "\xff", "input": {}}',
    ],
)
async def test_a_wrong_body_is_one_typed_refusal(content: bytes):
    node = FakeNode(completed(b"1"))
    kind = {"Content-Type": "application/json"}
    response = await ask(node, "POST", "/api/v1/tasks", content=content, headers=kind)
    assert response.status_code == 400
    assert problem_of(response)["code"] == "surfaces.request_malformed"
    assert not node.requests


async def test_a_wrong_node_is_refused():
    response = await post_task(FakeNode(), on="bad")
    assert (response.status_code, problem_of(response)["code"]) == (400, BadIdentifier.code)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/v2/status"),
    ],
)
async def test_unknown_paths_are_problems(method: str, path: str):
    response = await ask(FakeNode(), method, path)
    assert problem_of(response)["code"] == "surfaces.path_unknown"
    assert path in problem_of(response)["detail"]


async def test_a_fault_says_nothing_of_its_cause(caplog: pytest.LogCaptureFixture):
    response = await ask(FakeNode(), "GET", "/api/v1/skills/fault")
    assert response.status_code == 500
    assert problem_of(response)["code"] == "kernel.internal_error"
    assert "secret" not in response.text
    assert "the secret reason" in caplog.text


async def test_a_fault_in_mid_stream_says_nothing_of_its_cause(caplog: pytest.LogCaptureFixture):
    node = FakeNode(TaskOffered(A, 1), RuntimeError("the secret reason"))
    response = await post_task(node, accept=NDJSON)
    last = json.loads(response.content.split(b"\n")[-2])
    assert (last["type"], last["code"]) == ("error", "kernel.internal_error")
    assert "secret" not in response.text
    assert "the secret reason" in caplog.text


async def test_a_collected_stream_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(control, "CHUNKS_LIMIT", 2)
    chunks = [TaskChunk(n, b"1", "1") for n in range(3)]
    node = FakeNode(*chunks[:2], completed(None))
    assert (await post_task(node)).json()["chunks"] == [1, 1]
    node = FakeNode(*chunks, completed(None))
    assert problem_of(await post_task(node))["code"] == "skills.output_too_large"
    assert node.has_closed.is_set()


@pytest.mark.parametrize(
    ("limit", "updates"),
    [
        ("CHUNK_BYTES", [TaskChunk(0, b"12", "12"), TaskChunk(1, b"3", "3")]),
        ("ARTIFACTS_LIMIT", [TaskArtifact("f", "text/plain", bytes(32), b"")] * 3),
        ("ARTIFACT_BYTES", [TaskArtifact("f", "text/plain", bytes(32), b"ab")] * 2),
    ],
)
async def test_what_is_collected_is_bounded_in_bytes_and_files(
    monkeypatch: pytest.MonkeyPatch, limit: str, updates: list[TaskUpdate]
):
    monkeypatch.setattr(control, limit, 2)
    within = FakeNode(*updates[:-1], TaskMoved(A, "x.y", "It broke."), updates[-1], completed(b"1"))
    assert (await post_task(within)).status_code == 200
    node = FakeNode(*updates, completed(b"1"))
    problem = problem_of(await post_task(node))
    assert problem["code"] == "skills.output_too_large"
    assert "--stream" in problem["hint"]
    assert "--out" in problem["hint"]
    assert node.has_closed.is_set()


@pytest.mark.parametrize("when", ["at once", "while it works", "without reading"])
@pytest.mark.parametrize("accept", [b"*/*", NDJSON.encode()])
async def test_a_caller_who_hangs_up_takes_the_task_along(accept: bytes, when: str):
    started = asyncio.Event()
    if when == "at once":
        started.set()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    node = FakeNode(TaskOffered(A, 1), wait)
    body = b'{"skill":"s","input":{}}'
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        await started.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if when == "without reading" and message.get("more_body"):
            await wait()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/api/v1/tasks",
        "raw_path": b"/api/v1/tasks",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"accept", accept)],
        "server": ("node", 80),
        "client": None,
        "scheme": "http",
        "root_path": "",
    }
    await control_app(node)(scope, receive, send)  # type: ignore[arg-type]
    assert node.has_closed.is_set()


def test_each_error_has_a_title() -> None:
    from swarmharness.http.problem import problem
    from swarmharness.kernel.errors import catalogue

    for kind in catalogue().values():
        error: SwarmError = kind("A sentence.")
        assert problem(error)["title"]
        assert 400 <= error.http_status < 600


async def test_a_wrong_method_is_told_with_the_right_ones():
    response = await ask(FakeNode(), "DELETE", "/api/v1/tasks")
    assert problem_of(response)["code"] == "surfaces.method_not_allowed"
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/api/v1/status/", "/api/v1/tasks/", "/api/v1", "/"])
async def test_a_wrong_path_is_not_redirected(path: str):
    response = await ask(FakeNode(), "GET", path)
    assert problem_of(response)["code"] == "surfaces.path_unknown"
    assert response.status_code == 404
