import functools

from .models import Input


def traced(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


@traced
async def handle(input: Input):
    yield input.text
