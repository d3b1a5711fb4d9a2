from .models import Input, Output


async def handle(input: Input) -> Output:
    return Output(message=f"{input.greeting}, {input.name}!")
