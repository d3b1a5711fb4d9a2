from harnessapi import SkillInput, SkillOutput
from pydantic import Field, field_validator

from .sentences import split_sentences

MAX_CHARACTERS = 200_000  # about forty pages; ranking takes well under a second


class Input(SkillInput):
    text: str = Field(min_length=1, max_length=MAX_CHARACTERS, description="The text to shorten.")
    sentences: int = Field(3, ge=1, le=50, description="How many sentences to keep.")

    @field_validator("text")
    @classmethod
    def _holds_words(cls, value: str) -> str:
        if not split_sentences(value):
            raise ValueError("the text holds no words")
        return value


class RankedSentence(SkillOutput):
    position: int = Field(description="Which sentence of the text it is, from 0.")
    score: float = Field(description="1.0 is the most central sentence of the text.")
    text: str


class Output(SkillOutput):
    summary: str
    sentences: list[RankedSentence] = Field(description="In the order of the text.")
    source_sentences: int
    kept_share: float = Field(description="Characters kept, as a share of the text.")
