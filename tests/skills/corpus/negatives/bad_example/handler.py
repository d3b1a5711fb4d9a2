from .models import Input, Output


async def handle(input: Input) -> Output:
    return Output(text=input.text)
