from harnessapi.models import SkillInput, SkillOutput


class Input(SkillInput):
    code: str
    facts: str


class Output(SkillOutput):
    answer: str
