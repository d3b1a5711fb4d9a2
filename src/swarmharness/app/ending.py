"""Ending signals ask a command to end: Ctrl-C, SIGTERM, and the closing of its terminal."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from swarmharness.app.errors import Interrupted, Terminated
from swarmharness.kernel.errors import SwarmError

T = TypeVar("T")
READ_BYTES = 4096  # of a standard input whose content means nothing, only its end


@contextmanager
def ending_signals(asked: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Each one calls `asked` instead of ending the process."""
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, asked, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextmanager
def stdin_end(ended: Callable[[], None]) -> Iterator[None]:
    """Calls `ended` once nobody holds the other end of standard input any more.

    The kernel closes a dead process's pipes, however it died: this outlasts every other way in
    which a parent could tell its children that it is gone.
    """
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(0, READ_BYTES):
            loop.remove_reader(0)
            ended()

    loop.add_reader(0, readable)
    try:
        yield
    finally:
        loop.remove_reader(0)


async def until_signalled(work: Coroutine[Any, Any, T]) -> T:
    """The first signal cancels the work and is raised; later ones do not disturb its tidying."""
    working = asyncio.ensure_future(work)
    signals: list[signal.Signals] = []

    def asked(number: signal.Signals) -> None:
        if not signals:
            working.cancel()
        signals.append(number)

    with ending_signals(asked):
        try:
            return await working
        except asyncio.CancelledError:
            if not signals:
                raise
            raise ended_by(signals[0]) from None


def ended_by(number: signal.Signals) -> SwarmError:
    """What to raise for work that a signal cut short."""
    if number is signal.SIGINT:
        return Interrupted("Interrupted.")
    return Terminated(f"Ended by {number.name}.")
