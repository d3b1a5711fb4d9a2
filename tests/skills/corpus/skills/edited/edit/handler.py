"""Not the description."""

from .models import Input


async def handle(input: Input):
    yield f"edited {input.text}"
