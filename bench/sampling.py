"""A sample is the time one repetition took; subjects that are compared are sampled in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from bench.rows import Figure

Sampler = Callable[[int], Awaitable[list[float]]]
"""Repeats its subject that many times, one after the other; milliseconds of each."""


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest rank: a value that was really measured."""
    assert samples
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


def figure(samples: Sequence[float], note: str = "") -> Figure:
    """Median and 99th percentile."""
    return Figure(
        value=percentile(samples, 0.5),
        p99=percentile(samples, 0.99),
        samples=len(samples),
        note=note,
    )


def repeating(subject: Callable[[], Awaitable[object]]) -> Sampler:
    """A sampler that times one coroutine function in this process."""

    async def sample(count: int) -> list[float]:
        samples = []
        for _ in range(count):
            began = time.perf_counter_ns()
            await subject()
            samples.append((time.perf_counter_ns() - began) / 1e6)
        return samples

    return sample


async def in_turns(
    samplers: Mapping[str, Sampler], *, rounds: int, counts: Mapping[str, int]
) -> dict[str, list[float]]:
    """`rounds` times each subject, after one round that warms up and is not counted."""
    found: dict[str, list[float]] = {name: [] for name in samplers}
    for number in range(rounds + 1):
        for name, sampler in samplers.items():
            samples = await sampler(counts[name])
            if number:
                found[name] += samples
    return found
