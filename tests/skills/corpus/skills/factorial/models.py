from harnessapi import SkillInput, SkillOutput
from pydantic import Field


class Input(SkillInput):
    number: int = Field(ge=0, le=1000, description="A whole number.")


class Output(SkillOutput):
    number: int
    factorial: str
