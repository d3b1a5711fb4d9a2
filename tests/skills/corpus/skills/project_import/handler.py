from skills.shared.words import joined

from .models import Input, Output


async def handle(input: Input) -> Output:
    return Output(text=joined(input.text))
