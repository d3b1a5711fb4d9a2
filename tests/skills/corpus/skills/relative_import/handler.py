from .models import Input, Output
from .rules import ruled


async def handle(input: Input) -> Output:
    return Output(text=ruled(input.text))
