"""The docstring gives way to skill.toml."""

from __future__ import annotations

import math

from .models import Input, Output


async def handle(input: Input) -> Output:
    return Output(number=input.number, factorial=str(math.factorial(input.number)))
