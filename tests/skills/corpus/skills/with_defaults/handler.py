from harnessapi import SkillOutput

from .models import Input, Output

assert issubclass(Output, SkillOutput)


async def handle(input: Input) -> Output:
    text = input.style.separator.join([input.text] * input.times)
    if input.style.case == "upper":
        text = text.upper()
    return Output(text=text, length=len(text))
