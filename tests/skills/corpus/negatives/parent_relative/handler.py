from ..shared import words  # noqa: TID252  the error is the point


async def handle(input):
    return words
