"""Gives the words back, one at a time."""

from .models import Input


async def handle(input: Input):
    for word in input.text.split():
        yield word
    yield {"words": len(input.text.split())}
