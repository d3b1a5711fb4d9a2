"""A dial race: addresses are tried in order, each with a head start; the first success wins.

Losers are cancelled and awaited, so a race leaves no task and no socket. When all fail, the
error that tells most is raised: a wrong identity says more than a silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from swarmharness.kernel.errors import SwarmError
from swarmharness.network.errors import (
    DialRefused,
    DialTimeout,
    IdentityMismatch,
    NetworkMismatch,
    PeerBusy,
    Unreachable,
    VersionMismatch,
)

T = TypeVar("T")

_MOST_TELLING_FIRST: tuple[type[SwarmError], ...] = (
    NetworkMismatch,
    IdentityMismatch,
    VersionMismatch,
    PeerBusy,
    DialRefused,
    DialTimeout,
    Unreachable,
)


async def first_to_succeed(
    starts: Sequence[Callable[[], asyncio.Task[T]]],
    *,
    stagger_ms: int,
    lose: Callable[[T], None],
) -> T:
    """A second success, should it come in the same moment, is handed to `lose`."""
    waiting = list(starts)
    running: list[asyncio.Task[T]] = []
    errors: list[SwarmError] = []
    winner: asyncio.Task[T] | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                running.append(waiting.pop(0)())
            done, _ = await asyncio.wait(
                running,
                timeout=stagger_ms / 1000 if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in [task for task in running if task in done]:
                if task.exception() is None:
                    winner = winner or task
                else:
                    running.remove(task)
                    errors.append(_foreseen(task.exception()))
    finally:
        try:
            await _end([task for task in running if task is not winner], lose)
        except asyncio.CancelledError:
            if winner is not None:
                lose(winner.result())
            raise
    if winner is None:
        raise min(errors, key=_rank)
    return winner.result()


async def _end(losers: Sequence[asyncio.Task[T]], lose: Callable[[T], None]) -> None:
    for task in losers:
        task.cancel()
    for result in await asyncio.gather(*losers, return_exceptions=True):
        if not isinstance(result, BaseException):
            lose(result)


def _foreseen(error: BaseException | None) -> SwarmError:
    """Anything but a typed refusal is a bug of ours and goes up as it is."""
    if isinstance(error, SwarmError):
        return error
    assert error is not None
    raise error


def _rank(error: SwarmError) -> int:
    kinds = _MOST_TELLING_FIRST
    return next((at for at, kind in enumerate(kinds) if isinstance(error, kind)), len(kinds))
