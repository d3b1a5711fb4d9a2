"""The control client is how Python programs, and the `swarm` command, talk to a running node.

It finds the node through `run/endpoint.json` of its home and connects by the socket file. Every
refusal of the node is raised here as the `SwarmError` that the node raised.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar, final
from urllib.parse import quote

import httpx
import msgspec

# The refusals of a node keep their exit status and hint only where their classes are known.
import swarmharness.network.errors
import swarmharness.node.errors
import swarmharness.skills.errors
import swarmharness.tasks.errors  # noqa: F401
from swarmharness.kernel.errors import ErrorRecord, SwarmError, from_record
from swarmharness.node.api import NodeStatus, SkillStatus
from swarmharness.node.home import Home
from swarmharness.sdk.answers import UNREADABLE, Problem, read_answer, read_update, read_whole
from swarmharness.sdk.errors import NodeBusy, NodeUnresponsive, NoNode
from swarmharness.tasks.task import DEFAULT_DEADLINE_MS

T = TypeVar("T")

CONNECT_S = 5.0  # a node that is there accepts at once
CONNECTIONS_LIMIT = 200  # at a time; the node answers more than 256 with a refusal
ANSWER_S = 30.0  # for everything but tasks, which bring their own deadline
NDJSON = "application/x-ndjson"


@final
class Endpoint(msgspec.Struct, frozen=True):
    """What `run/endpoint.json` says."""

    pid: int
    url: str
    socket: str
    node_id: str
    version: str
    started_ms: int


def read_endpoint(home: Home) -> Endpoint:
    """Where the node of this home listens, or `NoNode`."""
    try:
        raw = home.endpoint.read_bytes()
    except OSError:
        raise NoNode(f"No node is running in {home.path}.") from None
    try:
        return msgspec.json.decode(raw, type=Endpoint)
    except msgspec.DecodeError as error:
        raise NoNode(f"{home.endpoint} cannot be read: {error}") from None


@final
class ControlClient:
    """`async with ControlClient(home) as node:`."""

    def __init__(self, home: Home) -> None:
        self.endpoint = read_endpoint(home)
        self._home = home
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=self.endpoint.socket,
                limits=httpx.Limits(
                    max_connections=CONNECTIONS_LIMIT, max_keepalive_connections=64
                ),
            ),
            base_url="http://node",
            timeout=_patience(ANSWER_S),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def status(self) -> NodeStatus:
        """Who the node is and what it does."""
        return await self._get("/api/v1/status", NodeStatus)

    async def skills(self) -> list[SkillStatus]:
        """What the node and its peers offer, and what is refused and why."""
        return await self._get("/api/v1/skills", list[SkillStatus])

    async def describe(self, skill: str) -> dict[str, Any]:
        """Schemas and words of one skill."""
        return await self._get(f"/api/v1/skills/{quote(skill, safe='')}", dict[str, Any])

    async def name_peer(self, address: str) -> None:
        """Connect with this peer from now on."""
        await self._post("/api/v1/peers", {"address": address})

    async def shutdown(self) -> None:
        """Ask the node to drain and end; returns before it has."""
        await self._post("/api/v1/shutdown", {})

    async def run(
        self,
        skill: str,
        input_json: bytes,
        *,
        on: str | None = None,
        deadline_ms: int = DEFAULT_DEADLINE_MS,
        retry: bool = True,
    ) -> dict[str, Any]:
        """The completed task: `output` or `chunks`, `artifacts`, who did it and what it used."""
        body = _run_body(skill, input_json, on, deadline_ms, retry=retry)
        patience = _patience(deadline_ms / 1000 + ANSWER_S)
        answer = await self._post("/api/v1/tasks", body, patience=patience)
        return read_whole(answer)

    async def stream(
        self,
        skill: str,
        input_json: bytes,
        *,
        on: str | None = None,
        deadline_ms: int = DEFAULT_DEADLINE_MS,
        retry: bool = True,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Each update of the task as it comes; leaving the iteration cancels the task."""
        body = _run_body(skill, input_json, on, deadline_ms, retry=retry)
        timeout = _patience(deadline_ms / 1000 + ANSWER_S)
        try:
            async with self._http.stream(
                "POST",
                "/api/v1/tasks",
                content=msgspec.json.encode(body),
                headers={"Content-Type": "application/json", "Accept": NDJSON},
                timeout=timeout,
            ) as response:
                if response.is_error:
                    raise _refusal(response.status_code, await response.aread())
                async for line in _lines(response.aiter_bytes()):
                    update = read_update(line)
                    if update["type"] == "error":
                        raise _refusal(response.status_code, line)
                    yield update
        except httpx.HTTPError as error:
            raise self._unresponsive(error) from error

    async def _get(self, path: str, kind: type[T]) -> T:
        try:
            response = await self._http.get(path)
        except httpx.HTTPError as error:
            raise self._unresponsive(error) from error
        if response.is_error:
            raise _refusal(response.status_code, response.content)
        return read_answer(response.content, kind)

    async def _post(
        self, path: str, body: dict[str, Any], *, patience: httpx.Timeout | None = None
    ) -> bytes:
        try:
            response = await self._http.post(
                path,
                content=msgspec.json.encode(body),
                headers={"Content-Type": "application/json"},
                timeout=patience or _patience(ANSWER_S),
            )
        except httpx.HTTPError as error:
            raise self._unresponsive(error) from error
        if response.is_error:
            raise _refusal(response.status_code, response.content)
        return response.content

    def _unresponsive(self, error: httpx.HTTPError) -> SwarmError:
        if isinstance(error, httpx.ConnectError):
            return NoNode(f"No node answers in {self._home.path}; it may have crashed.")
        return NodeUnresponsive(f"The node did not answer: {error or type(error).__name__}.")


def _patience(answer_s: float) -> httpx.Timeout:
    """For the answer; a request that waits for one of our own connections waits as it must."""
    return httpx.Timeout(answer_s, connect=CONNECT_S, pool=None)


def _run_body(
    skill: str, input_json: bytes, on: str | None, deadline_ms: int, *, retry: bool
) -> dict[str, Any]:
    return {
        "skill": skill,
        "input": msgspec.Raw(input_json),
        "on": on,
        "deadline_ms": deadline_ms,
        "retry": retry,
    }


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Split at line feeds only; httpx also splits at characters that JSON strings may hold."""
    begun: list[bytes] = []
    async for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for end in ended:
            yield b"".join([*begun, end])
            begun.clear()
        begun.append(rest)


def _refusal(status: int, content: bytes) -> SwarmError:
    try:
        problem = msgspec.json.decode(content, type=Problem)
    except UNREADABLE:
        if status == HTTPStatus.SERVICE_UNAVAILABLE:  # said by the server, before our own routes
            return NodeBusy("The node answers as many requests as it may at a time.")
        return NodeUnresponsive(f"The node answered {status} and gave no reason.")
    record = ErrorRecord(problem.code, problem.blame, problem.detail, problem.hint, problem.data)
    return from_record(record, remote=False)
