from .models import Input


def handle(input: Input):
    yield from input.text.split()
