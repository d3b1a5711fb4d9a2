from harnessapi import SkillInput, SkillOutput
from pydantic import Field, model_validator

MAX_TOTAL_MS = 50_000  # below the skill's time limit of 60 s, so that every count can end


class Input(SkillInput):
    start: int = Field(5, ge=1, le=100_000, description="The first number.")
    delay_ms: int = Field(100, ge=0, le=10_000, description="The pause after each number.")

    @model_validator(mode="after")
    def _ends_in_time(self) -> "Input":
        if self.start * self.delay_ms > MAX_TOTAL_MS:
            raise ValueError(
                f"{self.start} numbers with {self.delay_ms} ms each take longer than "
                f"{MAX_TOTAL_MS // 1000} s"
            )
        return self


class Output(SkillOutput):
    """What one chunk of the stream is."""

    chunk: str
