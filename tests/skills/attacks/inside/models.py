from harnessapi.models import SkillInput, SkillOutput


class Input(SkillInput):
    codes: list[str]
    facts: str


class Output(SkillOutput):
    answers: list[str]
