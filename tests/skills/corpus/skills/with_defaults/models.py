from typing import Literal

from harnessapi.models import SkillInput, SkillOutput
from pydantic import BaseModel, Field


class Style(BaseModel):
    case: Literal["upper", "lower", "keep"] = "keep"
    separator: str = Field(default=" ", max_length=8)


class Input(SkillInput):
    text: str = Field(min_length=1, pattern="^(a|b|[^x])+$")
    times: int = Field(default=2, ge=1, le=100)
    style: Style = Style()


class Output(SkillOutput):
    text: str
    length: int
