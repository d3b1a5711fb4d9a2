"""The control API is how people's programs steer their own node: routes over `NodeApi`.

    GET  /healthz, /readyz           open: is the process there, does it serve
    GET  /api/v1/status              who, where, what is running
    GET  /api/v1/skills              what this node and its peers offer, and what is refused and why
    GET  /api/v1/skills/{name}       schemas and words of one skill
    POST /api/v1/tasks               run a skill; the answer, or with Accept: application/x-ndjson
                                     each update of the task on a line of its own
    POST /api/v1/peers               name a peer to connect with
    POST /api/v1/shutdown            drain and end the node

Input and output stay encoded: the node never decodes what a skill reads or writes.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, TypeVar, final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from swarmharness.http.errors import NoSuchMethod, NoSuchPath, RequestMalformed
from swarmharness.http.problem import problem, problem_response
from swarmharness.kernel.errors import InternalError, SwarmError
from swarmharness.kernel.ids import NodeId, node_id_short, node_id_text
from swarmharness.node.api import NodeApi
from swarmharness.skills.errors import OutputTooLarge
from swarmharness.tasks.errors import TaskCancelled
from swarmharness.tasks.task import DEFAULT_DEADLINE_MS, MAX_DEADLINE_MS, TaskRequest
from swarmharness.tasks.update import (
    TaskAccepted,
    TaskArtifact,
    TaskChunk,
    TaskCompleted,
    TaskMoved,
    TaskOffered,
    TaskProgress,
    TaskUpdate,
    TaskUpdates,
)

log = logging.getLogger(__name__)

NDJSON = "application/x-ndjson"
CHUNKS_LIMIT = 100_000  # of a stream that is asked for in one answer; longer ones are streamed
CHUNK_BYTES = 64 * 1024 * 1024  # of those chunks together, which are held until the last one
ARTIFACTS_LIMIT = 64  # files in one answer; more are streamed
ARTIFACT_BYTES = 64 * 1024 * 1024  # of those files together
_LINE_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")
T = TypeVar("T")


@final
class RunBody(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /api/v1/tasks` takes."""

    skill: str
    input: msgspec.Raw
    on: str | None = None
    deadline_ms: int = DEFAULT_DEADLINE_MS
    retry: bool = True


@final
class PeerBody(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /api/v1/peers` takes."""

    address: str


def control_app(node: NodeApi) -> Starlette:
    """The routes, without the gate."""
    routes = _Routes(node)
    app = Starlette(
        routes=[
            Route("/healthz", routes.health),
            Route("/readyz", routes.health),
            Route("/api/v1/status", routes.status),
            Route("/api/v1/skills", routes.skills),
            Route("/api/v1/skills/{name:path}", routes.skill),
            Route("/api/v1/tasks", routes.tasks, methods=["POST"]),
            Route("/api/v1/peers", routes.peers, methods=["POST"]),
            Route("/api/v1/shutdown", routes.shutdown, methods=["POST"]),
        ],
        exception_handlers={
            SwarmError: _answer_refusal,  # type: ignore[dict-item]
            HTTPException: _answer_unknown,  # type: ignore[dict-item]
            Exception: _answer_fault,
        },
    )
    app.router.redirect_slashes = False  # a client that misspells a path should be told so
    return app


@final
class _Routes:
    def __init__(self, node: NodeApi) -> None:
        self._node = node

    async def health(self, _request: Request) -> Response:
        return _json({"ok": True})

    async def status(self, _request: Request) -> Response:
        return _json(await self._node.status())

    async def skills(self, _request: Request) -> Response:
        return _json(await self._node.skills())

    async def skill(self, request: Request) -> Response:
        return _json(await self._node.describe(request.path_params["name"]))

    async def peers(self, request: Request) -> Response:
        body = await _body(request, PeerBody)
        await self._node.name_peer(body.address)
        return _json({"ok": True})

    async def shutdown(self, _request: Request) -> Response:
        self._node.request_shutdown()
        return _json({"ok": True})

    async def tasks(self, request: Request) -> Response:
        body = await _body(request, RunBody)
        if not 0 < body.deadline_ms <= MAX_DEADLINE_MS:
            raise RequestMalformed(f"deadline_ms is a number from 1 to {MAX_DEADLINE_MS}.")
        task = TaskRequest(
            skill=body.skill,
            input=bytes(body.input),
            on=None if body.on is None else self._node.find_node(body.on),
            deadline_ms=body.deadline_ms,
            retry=body.retry,
        )
        updates = self._node.run(task)
        if NDJSON in request.headers.get("accept", ""):
            # What is refused before anything was tried keeps its own HTTP status.
            first = await anext(updates)
            return _TaskStream(first, updates)
        return await _until_left(request, _collect(updates))


async def _body(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestMalformed(f"The body is not a valid request: {error}") from None
    except ClientDisconnect:
        raise RequestMalformed("The connection ended before the body did.") from None


async def _until_left(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """The caller who hangs up takes the task along."""
    answering = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise TaskCancelled("The caller went away.")
        return answering.result()
    finally:
        for task in (answering, leaving):
            task.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _collect(updates: TaskUpdates) -> Response:
    """One answer for the whole task; what a failed attempt had sent is dropped."""
    whole = _Whole()
    async with aclosing(updates):
        async for update in updates:
            match update:
                case TaskChunk(value=value):
                    whole.add_chunk(value)
                case TaskArtifact():
                    whole.add_artifact(update)
                case TaskMoved():
                    whole = _Whole()
                case TaskCompleted():
                    line = _update_line(update)
                    if update.output is None:
                        line["chunks"] = whole.chunks
                    return _json({**line, "artifacts": whole.artifacts})
                case TaskOffered() | TaskAccepted() | TaskProgress():
                    pass
    raise AssertionError("a task's updates end with TaskCompleted or an error")


@final
class _Whole:
    """What one attempt has sent so far, within limits."""

    def __init__(self) -> None:
        self.chunks: list[msgspec.Raw] = []
        self.artifacts: list[dict[str, Any]] = []
        self._chunk_bytes = 0
        self._artifact_bytes = 0

    def add_chunk(self, value: bytes) -> None:
        self._chunk_bytes += len(value)
        if len(self.chunks) == CHUNKS_LIMIT:
            raise _too_much(f"more than {CHUNKS_LIMIT} chunks")
        if self._chunk_bytes > CHUNK_BYTES:
            raise _too_much(f"chunks of more than {CHUNK_BYTES} bytes together")
        self.chunks.append(msgspec.Raw(value))

    def add_artifact(self, artifact: TaskArtifact) -> None:
        self._artifact_bytes += len(artifact.content)
        if len(self.artifacts) == ARTIFACTS_LIMIT:
            raise _too_much(f"more than {ARTIFACTS_LIMIT} files")
        if self._artifact_bytes > ARTIFACT_BYTES:
            raise _too_much(f"files of more than {ARTIFACT_BYTES} bytes together")
        self.artifacts.append(_update_line(artifact))


def _too_much(what: str) -> OutputTooLarge:
    return OutputTooLarge(
        f"The task has sent {what}.",
        hint="Take each piece as it comes: swarm run --stream, with --out DIR for files.",
    )


@final
class _TaskStream(StreamingResponse):
    """Closes the task's updates however it ends; a caller may leave before the first is sent."""

    def __init__(self, first: TaskUpdate, updates: TaskUpdates) -> None:
        self._updates = updates
        self._body = _lines(first, updates)
        super().__init__(self._body, media_type=NDJSON)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._updates), aclosing(self._body):
            await super().__call__(scope, receive, send)


async def _lines(first: TaskUpdate, rest: TaskUpdates) -> AsyncGenerator[bytes, None]:
    try:
        yield _line(_update_line(first))
        async for update in rest:
            yield _line(_update_line(update))
    except SwarmError as error:
        yield _line({**problem(error), "type": "error"})
    except Exception:
        log.exception("A task failed after its first update was sent.")
        yield _line({**problem(_fault()), "type": "error"})


def _update_line(update: TaskUpdate) -> dict[str, Any]:  # noqa: PLR0911  one per update
    match update:
        case TaskOffered(node, attempt):
            return {"type": "offered", **_node(node), "attempt": attempt}
        case TaskAccepted(node):
            return {"type": "accepted", **_node(node)}
        case TaskChunk(n, value, text):
            return {"type": "chunk", "n": n, "value": msgspec.Raw(value), "text": text}
        case TaskProgress(thousandths, note):
            return {"type": "progress", "fraction": thousandths / 1000, "note": note}
        case TaskArtifact(name, media_type, sha256, content):
            return {
                "type": "artifact",
                "name": name,
                "media_type": media_type,
                "size": len(content),
                "sha256": sha256.hex(),
                "content_base64": base64.b64encode(content).decode(),
            }
        case TaskMoved(node, code, sentence):
            return {"type": "moved", **_node(node), "code": code, "sentence": sentence}
        case TaskCompleted(task_id, node, attempts, failures, output, usage):
            return {
                "type": "completed",
                "task_id": task_id.hex(),
                **_node(node),
                "attempts": attempts,
                "failures": failures,
                "output": None if output is None else msgspec.Raw(output),
                "usage": msgspec.structs.asdict(usage),
            }


def _node(node_id: NodeId) -> dict[str, str]:
    return {"node": node_id_text(node_id), "short_node": node_id_short(node_id)}


def _line(value: dict[str, Any]) -> bytes:
    # A line break in embedded JSON can only be white space: inside a string it is escaped.
    return msgspec.json.encode(value).translate(_LINE_BREAKS_TO_SPACES) + b"\n"


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _answer_refusal(_request: Request, error: SwarmError) -> Response:
    return problem_response(error)


async def _answer_unknown(request: Request, error: HTTPException) -> Response:
    sentence = f"{request.method} {request.url.path}: {error.detail}."
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response = problem_response(NoSuchMethod(sentence))
        response.headers.update(error.headers or {})
        return response
    return problem_response(NoSuchPath(sentence))


async def _answer_fault(request: Request, error: Exception) -> Response:
    log.error("%s %s failed.", request.method, request.url.path, exc_info=error)
    return problem_response(_fault())


def _fault() -> InternalError:
    """Says nothing of the cause, which is in the log."""
    return InternalError("The node could not answer this request.")
