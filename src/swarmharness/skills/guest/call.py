"""One call inside the sandbox: input validated, handler run, everything it gives framed.

Theory of operation. A handler may be any of four kinds (async function, async generator, plain
function, plain generator) and may be wrapped in decorators that hide which. So the decision
where to run it is taken from the unwrapped function, and the decision how to read what it
returned is taken from the returned object itself. Plain code may block and therefore runs in
a thread; the event loop stays free to hear `cancel`.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import from_json

from .answer import chunk_frame, output_json
from .call_directory import CallDirectory
from .channel import Channel, HostGone
from .failure import HandlerEnded, failure, failure_of, invalid_input
from .loader import LoadedSkill

_CHUNKS_PER_TURN: Final = 64  # a generator that never waits still lets `cancel` be heard
MAX_PROGRESS: Final = 4096  # reports of one call; the host kills a sandbox that sends more


class _Streamed(int):
    """The number of chunks of a plain generator that was read to its end in its own thread."""


class Call:
    """One run of the handler."""

    def __init__(self, skill: LoadedSkill, channel: Channel, directory: CallDirectory) -> None:
        self._skill = skill
        self._channel = channel
        self._directory = directory
        self._reports = 0
        self.thread_end: asyncio.Future[Any] | None = None
        """Where a plain handler runs in a thread, which nobody can stop: when it is over."""

    async def serve(self) -> None:
        """To the terminal frame; raises nothing but `HostGone`."""
        request = await self._channel.receive()
        task = asyncio.current_task()
        assert task is not None
        self._channel.watch(task.cancel)
        content = None
        try:
            terminal, content = await self._run(request)
        except HostGone:
            raise
        except asyncio.CancelledError:
            terminal = failure("cancelled", "The call was cancelled.")
        except BaseException as error:  # noqa: BLE001  SystemExit in a handler ends only its call
            terminal = failure_of(error)
        if content is None:
            self._channel.post(terminal)
        else:
            self._channel.post_content(terminal, content)
        await self._channel.drain()

    async def _run(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes | None]:
        try:
            payload = from_json(request["d"], allow_inf_nan=False)
        except ValueError as error:
            return failure("invalid_input", f"The input is not JSON: {error}"), None
        try:
            value = self._skill.input_model.model_validate(payload)
        except ValidationError as error:
            return invalid_input(error), None
        self._channel.post({"t": "started", "id": request["id"]})
        self._offer_context(request)
        chunks, returned = await self._handle(value)
        output = None if chunks is not None else output_json(self._skill.output_model, returned)
        await self._send_artifacts()
        if output is not None:
            return {"t": "result"}, output
        return {"t": "end", "n": chunks}, None

    async def _handle(self, value: Any) -> tuple[int | None, Any]:
        """The number of chunks of a stream, or else what the handler returned."""
        if self._skill.is_sync:
            returned = await self._in_thread(lambda: self._handle_plainly(value))
        else:
            returned = self._skill.handle(value)
        if inspect.isawaitable(returned):
            returned = await returned
        if isinstance(returned, _Streamed):
            return int(returned), None
        if isinstance(returned, AsyncIterator):
            return await self._relay(returned), None
        if isinstance(returned, Iterator):
            return int(await self._in_thread(lambda: self._relay_plainly(returned))), None
        return None, returned

    def _handle_plainly(self, value: Any) -> Any:
        """In a thread, which also reads the generator that it makes."""
        returned = self._skill.handle(value)
        return self._relay_plainly(returned) if isinstance(returned, Iterator) else returned

    async def _relay(self, stream: AsyncIterator[Any]) -> int:
        n = 0
        try:
            async for chunk in stream:
                self._channel.post_content(*chunk_frame(n, chunk))
                n += 1
                if self._channel.is_blocked:
                    await self._channel.drain()
                elif n % _CHUNKS_PER_TURN == 0:
                    await asyncio.sleep(0)
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        return n

    def _relay_plainly(self, stream: Iterator[Any]) -> _Streamed:
        n = 0
        for chunk in stream:
            self._channel.post_content(*chunk_frame(n, chunk))
            self._channel.drain_in_thread()
            n += 1
        return _Streamed(n)

    async def _send_artifacts(self) -> None:
        for name, content in self._directory.artifacts():
            self._channel.post_content({"t": "artifact", "name": name}, content)
            await self._channel.drain()

    def _offer_context(self, request: dict[str, Any]) -> None:
        module = sys.modules["swarmharness.skill"]  # the bootstrap has put it there
        context = module.Context(
            task_id=request["task"],
            caller=request["caller"],
            deadline_ms=request["deadline_ms"],
            directory=self._directory.path,
            report=self._report,
        )
        module._current.set(context)  # noqa: SLF001  one mechanism, on the skill's side and on ours

    def _report(self, thousandths: int, note: str) -> None:
        # Progress is a courtesy: it never waits, never piles up, and nobody reads thousands.
        if not self._channel.is_blocked and self._reports < MAX_PROGRESS:
            self._reports += 1
            text = note.encode("utf-8", "replace").decode()
            with suppress(HostGone):
                self._channel.post({"t": "progress", "p": thousandths, "note": text})

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        """A daemon thread of its own: a handler that hangs must not hold a shared pool's place."""
        loop = asyncio.get_running_loop()
        end = self.thread_end = loop.create_future()
        context = contextvars.copy_context()

        def body() -> None:
            result: Any = None
            fault: Exception | None = None
            try:
                result = context.run(work)
            except (MemoryError, HostGone) as error:
                fault = error
            except BaseException as error:  # noqa: BLE001  carried to the call, which describes it
                fault = HandlerEnded(error)
            with suppress(RuntimeError):  # the loop ended first: nobody waits
                loop.call_soon_threadsafe(_settle, end, result, fault)

        threading.Thread(target=body, name="handler", daemon=True).start()
        return await asyncio.shield(end)


def _settle(end: asyncio.Future[Any], result: Any, fault: Exception | None) -> None:
    if fault is None:
        end.set_result(result)
    else:
        end.set_exception(fault)
        end.exception()  # looked at: a call that was cancelled meanwhile does not ask
