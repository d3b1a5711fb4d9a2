"""A child is another process of the benchmark: it speaks JSON lines and ends with its input.

Whatever ends the benchmark closes the pipe, so that no child outlives it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, final

ROOT = Path(__file__).resolve().parents[1]
START_S = 120.0  # the first import of a large package from a cold disk
END_S = 20.0  # after which a child that does not end by itself is killed
LINE_LIMIT = 16 * 1024 * 1024  # bytes; a round of samples is far shorter


class ChildFailed(Exception):
    """The child ended, or said something else than it should."""


@final
class Child:
    """One that has started; `hello` is what it said first."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.process = process
        self.hello: Any = None
        self._errors = errors

    async def ask(self, question: str) -> Any:
        """One line there, one line back."""
        assert self.process.stdin is not None
        self.process.stdin.write(question.encode() + b"\n")
        return await self.answer()

    async def answer(self) -> Any:
        """The next line; other people's programs may print lines that are no JSON."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if line.startswith((b"{", b"[")):
                return json.loads(line)
        raise ChildFailed(self._errors.read_text(errors="replace").strip()[-500:] or "it ended")


@asynccontextmanager
async def child(
    command: Sequence[str], directory: Path, *, variables: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """From its first line until it has ended."""
    errors = directory / f"child-{secrets.token_hex(4)}.err"
    with errors.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            limit=LINE_LIMIT,
            env={**os.environ, "TMPDIR": str(directory), **(variables or {})},
            start_new_session=True,  # Ctrl-C reaches the benchmark, which ends its children
        )
    started = Child(process, errors)
    try:
        async with asyncio.timeout(START_S):
            started.hello = await started.answer()
        yield started
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
