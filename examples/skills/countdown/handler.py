"""Count down to zero, one streamed number at a time."""

import asyncio
from collections.abc import AsyncIterator

from .models import Input


async def handle(request: Input) -> AsyncIterator[str]:
    for number in range(request.start, 0, -1):
        yield str(number)
        if request.delay_ms:
            await asyncio.sleep(request.delay_ms / 1000)
    yield "lift-off"
