from harnessapi import SkillInput, SkillOutput
from pydantic import Field


class Input(SkillInput):
    source: str = Field(alias="from")
    target: str = Field(validation_alias="to")


class Output(SkillOutput):
    source: str = Field(serialization_alias="from")
    target: str
