from harnessapi import SkillOutput
from pydantic import BaseModel


class Input(BaseModel):
    text: str


class Output(SkillOutput):
    text: str
