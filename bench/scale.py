"""The scale of a run is how often everything is repeated: for figures, or to see that it works."""

from __future__ import annotations

from typing import final

import msgspec


@final
class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """Repetitions; those of one round where rounds are taken in turns."""

    rounds: int
    echoes: int
    calls: int
    bulks: int
    tasks: int
    forks: int
    chunks: int
    flood: int
    starts: int


FULL = Scale(
    rounds=10,
    echoes=500,
    calls=6_400,
    bulks=7,
    tasks=100,
    forks=20,
    chunks=20_000,
    flood=6_400,
    starts=3,
)
QUICK = Scale(
    rounds=2,
    echoes=200,
    calls=1_280,
    bulks=2,
    tasks=30,
    forks=5,
    chunks=2_000,
    flood=640,
    starts=1,
)
