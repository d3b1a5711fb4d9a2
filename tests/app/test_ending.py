"""What a signal does to the work of a command, and what the end of standard input does."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from swarmharness.app.ending import stdin_end, until_signalled
from swarmharness.app.errors import Interrupted, Terminated
from swarmharness.kernel.errors import SwarmError


async def test_work_that_is_left_alone_is_answered():
    async def work() -> int:
        return 7

    assert await until_signalled(work()) == 7


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [
        (signal.SIGINT, Interrupted, 130),
        (signal.SIGTERM, Terminated, 143),
        (signal.SIGHUP, Terminated, 143),
    ],
)
async def test_a_signal_ends_the_work_but_not_its_tidying(
    number: signal.Signals, kind: type[SwarmError], status: int
):
    has_tidied = False

    async def work() -> None:
        nonlocal has_tidied
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            has_tidied = True

    with pytest.raises(kind) as caught:
        await until_signalled(work())
    assert caught.value.exit_code == status
    assert has_tidied


async def test_who_cancels_without_a_signal_gets_a_cancellation():
    waiting = asyncio.ensure_future(until_signalled(asyncio.Event().wait()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_only_the_end_of_standard_input_is_told():
    ended = asyncio.Event()
    reading, writing = os.pipe()
    saved = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    try:
        with stdin_end(ended.set):
            os.write(writing, b"words")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not ended.is_set()
            os.close(writing)
            await ended.wait()
    finally:
        os.dup2(saved, 0)
        os.close(saved)
