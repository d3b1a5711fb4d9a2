from .models import Input, Output


async def handle(input: Input) -> Output:
    return Output(text=f"base {input.text}")
