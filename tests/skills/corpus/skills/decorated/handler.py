from harnessapi import skill

from .models import Input, Output


@skill(name="elsewhere", input_model=Input, output_model=Output)
async def handle(input: Input) -> Output:
    return Output(text=f"decorated {input.text}")
