"""One call inside the sandbox: input validated, handler run, everything it gives framed.

Theory of operation. A handler may be any of four kinds (async function, async generator, plain
function, plain generator) and may be wrapped in decorators that hide which. So the decision
where to run it is taken from the unwrapped function, and the decision how to read what it
returned is taken from the returned object itself. Plain code may block and therefore runs in
a thread; the event loop stays free to hear `cancel`.

A handler's exception is the handler's business: its class and message go to the caller, its
traceback only to standard error, which the owner of this node can read.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import os
import stat
import sys
import tempfile
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from .channel import Channel, HostGone
from .loader import LoadedSkill

MESSAGE_LIMIT: Final = 2000  # characters of an exception's text that travel
_DETAIL_LIMIT: Final = 16  # validation faults listed; more help nobody
_DETAIL_TEXT: Final = 300  # characters of one fault
_CHUNKS_PER_TURN: Final = 64  # a generator that never waits still lets `cancel` be heard


class OutputRefused(Exception):
    """The handler gave something that its own `Output` model or JSON cannot express."""


async def serve_call(skill: LoadedSkill, channel: Channel, directory: Path) -> None:
    """Runs one call to its terminal frame. Raises nothing but `HostGone` and cancellation."""
    request = await channel.receive()
    task = asyncio.current_task()
    assert task is not None
    channel.watch(task.cancel)
    try:
        terminal, content = await _run(skill, channel, directory, request)
    except HostGone:
        raise
    except asyncio.CancelledError:
        terminal, content = _error("cancelled", "The call was cancelled."), None
    except BaseException as error:  # noqa: BLE001  SystemExit in a handler ends only its call
        terminal, content = _describe_failure(error), None
    if content is None:
        channel.post(terminal)
    else:
        channel.post_content(terminal, content)
    await channel.drain()


async def _run(
    skill: LoadedSkill, channel: Channel, directory: Path, request: dict[str, Any]
) -> tuple[dict[str, Any], bytes | None]:
    try:
        payload = from_json(request["d"], allow_inf_nan=False)
    except ValueError as error:
        return _error("invalid_input", f"The input is not JSON: {error}"), None
    try:
        value = skill.input_model.model_validate(payload)
    except ValidationError as error:
        return _invalid_input(error), None
    channel.post({"t": "started", "id": request["id"]})
    _enter_context(channel, directory, request)
    if skill.is_sync:
        returned = await _in_thread(lambda: _settle_plain(skill.handle(value), channel))
    else:
        returned = skill.handle(value)
    if inspect.isawaitable(returned):
        returned = await returned
    if isinstance(returned, AsyncIterator):
        chunks = await _relay_stream(returned, channel)
    elif isinstance(returned, Iterator):
        chunks = await _in_thread(lambda: _relay_plain_stream(returned, channel))
    elif isinstance(returned, _Streamed):
        chunks = returned.chunks
    else:
        output = _output_json(skill, returned)
        await _send_artifacts(channel, directory)
        return {"t": "result"}, output
    await _send_artifacts(channel, directory)
    return {"t": "end", "n": chunks}, None


def _enter_context(channel: Channel, directory: Path, request: dict[str, Any]) -> None:
    def report(thousandths: int, note: str) -> None:
        if not channel.is_blocked:  # progress is a courtesy: it never waits, and never piles up
            with suppress(HostGone):
                channel.post({"t": "progress", "p": thousandths, "note": note})

    module = importlib.import_module("swarmharness.skill")
    module._current.set(  # noqa: SLF001  the two files are one mechanism on two paths
        module.Context(
            task_id=request["task"],
            caller=request["caller"],
            deadline_ms=request["deadline_ms"],
            directory=directory,
            report=report,
        )
    )


class _Streamed:
    """A plain generator was read to its end in the thread that made it."""

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks


def _settle_plain(returned: Any, channel: Channel) -> Any:
    """Generators stay in the thread that made them; anything else goes back to the loop."""
    if isinstance(returned, Iterator):
        return _Streamed(_relay_plain_stream(returned, channel))
    return returned


async def _relay_stream(stream: AsyncIterator[Any], channel: Channel) -> int:
    n = 0
    try:
        async for chunk in stream:
            _post_chunk(channel, n, chunk)
            n += 1
            if channel.is_blocked:
                await channel.drain()
            elif n % _CHUNKS_PER_TURN == 0:
                await asyncio.sleep(0)
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
    return n


def _relay_plain_stream(stream: Iterator[Any], channel: Channel) -> int:
    n = 0
    for chunk in stream:
        _post_chunk(channel, n, chunk)
        channel.drain_in_thread()
        n += 1
    return n


def _post_chunk(channel: Channel, n: int, chunk: Any) -> None:
    """`d` is the chunk's JSON up to `cut`, then its text; text alone needs no JSON from here."""
    if type(chunk) is str:
        channel.post_content({"t": "chunk", "n": n, "cut": 0}, _utf8(chunk))
        return
    try:
        value = (
            chunk.model_dump_json(by_alias=False).encode()
            if isinstance(chunk, BaseModel)
            else to_json(chunk, inf_nan_mode="null", fallback=str)
        )
    except (PydanticSerializationError, ValueError) as error:
        raise OutputRefused(f"Chunk {n} has no JSON form: {error}") from error
    content = value + _utf8(str(chunk))
    channel.post_content({"t": "chunk", "n": n, "cut": len(value)}, content)


def _output_json(skill: LoadedSkill, returned: Any) -> bytes:
    try:
        if isinstance(returned, dict):
            returned = skill.output_model.model_validate(returned)
        if isinstance(returned, skill.output_model):
            return returned.model_dump_json(by_alias=False).encode()
    except ValidationError as error:
        raise OutputRefused(
            f"The returned dict is no {skill.output_model.__name__}: {_faults_text(error)}"
        ) from error
    except (PydanticSerializationError, ValueError) as error:
        raise OutputRefused(f"The output has no JSON form: {error}") from error
    raise OutputRefused(
        f"The handler returned {type(returned).__name__}, not {skill.output_model.__name__}."
    )


async def _send_artifacts(channel: Channel, directory: Path) -> None:
    """Regular files only; the host checks names, number and size again."""
    for path in sorted((directory / "out").iterdir()):
        if stat.S_ISREG(path.lstat().st_mode):
            channel.post_content({"t": "artifact", "name": path.name}, path.read_bytes())
            await channel.drain()


async def _in_thread(work: Callable[[], Any]) -> Any:
    """A daemon thread of its own: a handler that hangs must not hold a shared pool's place."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def body() -> None:
        result, failure = None, None
        try:
            result = context.run(work)
        except BaseException as error:  # noqa: BLE001  carried to the call, which describes it
            # A future refuses StopIteration, and SystemExit would end the loop.
            failure = error if isinstance(error, Exception) else _Ended(error)
            if isinstance(error, StopIteration):
                failure = _Ended(error)
        with suppress(RuntimeError):  # the loop ended first: nobody waits
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=body, name="handler", daemon=True).start()
    return await done


class _Ended(Exception):
    """A handler's exception of a kind that futures and loops treat as their own."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _describe_failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, _Ended):
        error = error.cause
    if isinstance(error, MemoryError):
        return _error("memory", "The handler ran out of memory.")
    if isinstance(error, OutputRefused):
        return _error("bad_output", str(error))
    with suppress(OSError):  # the owner's copy; a full or closed pipe must not change the answer
        traceback.print_exception(error, file=sys.stderr)
        sys.stderr.flush()
    text = str(error)
    return _error("handler_error", f"{type(error).__name__}: {text}" if text else repr(error))


def _invalid_input(error: ValidationError) -> dict[str, Any]:
    frame = _error("invalid_input", f"The input does not fit: {_faults_text(error)}")
    frame["detail"] = [
        {
            "loc": [part if isinstance(part, int) else part[:_DETAIL_TEXT] for part in f["loc"]],
            "msg": f["msg"][:_DETAIL_TEXT],
            "type": f["type"][:_DETAIL_TEXT],
        }
        for f in error.errors(include_url=False, include_context=False, include_input=False)[
            :_DETAIL_LIMIT
        ]
    ]
    return frame


def _faults_text(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    first = faults[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where}: {first['msg']}{more}"


def _error(code: str, message: str) -> dict[str, Any]:
    return {"t": "error", "code": code, "message": _utf8(message[:MESSAGE_LIMIT]).decode()}


def _utf8(text: str) -> bytes:
    """A lone surrogate becomes `?`: what leaves is always UTF-8."""
    return text.encode("utf-8", "replace")


def make_call_directory(scratch: Path, number: int) -> Path:
    """With its `out`, whose files go back to the caller."""
    directory = scratch / f"call-{number}"
    (directory / "out").mkdir(parents=True)
    return directory


def enter_call_directory(directory: Path) -> None:
    """For a process that serves one call at a time: the directory is its whole world."""
    os.chdir(directory)
    os.environ["SWARM_OUT"] = str(directory / "out")
    os.environ["HOME"] = os.environ["TMPDIR"] = str(directory)
    tempfile.tempdir = None  # forget the place found at import
