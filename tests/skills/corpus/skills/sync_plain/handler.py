from .models import Input, Output


def handle(input: Input) -> Output:
    return Output(text=input.text)
