from .models import Input, Output


async def handle(input: Input) -> Output:
    return Output(source=input.source, target=input.target)
