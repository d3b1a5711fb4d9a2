from harnessapi import SkillInput, SkillOutput


class Input(SkillInput):
    name: str
    greeting: str = "Hello"


class Output(SkillOutput):
    message: str
