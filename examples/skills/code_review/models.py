from typing import Literal

from harnessapi import SkillInput, SkillOutput
from pydantic import Field

MAX_CHARACTERS = 200_000  # about five thousand lines


class Input(SkillInput):
    source: str = Field(max_length=MAX_CHARACTERS, description="Python source. It is never run.")
    filename: str = Field("snippet.py", min_length=1, max_length=200)
    max_findings: int = Field(200, ge=1, le=1000)


class Finding(SkillOutput):
    line: int = Field(description="From 1.")
    column: int = Field(description="From 1.")
    severity: Literal["error", "warning", "advice"]
    rule: str
    message: str


class Output(SkillOutput):
    findings: list[Finding] = Field(description="In the order of the source.")
    left_out: int = Field(description="Findings beyond max_findings.")
    lines: int
    parses: bool
