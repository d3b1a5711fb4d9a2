from harnessapi import SkillInput, SkillOutput
from pydantic import Field

MAX_CHARACTERS = 500_000  # a thick novel; the answer still comes within a second


class Input(SkillInput):
    text: str = Field(min_length=1, max_length=MAX_CHARACTERS, description="The text to measure.")
    top: int = Field(10, ge=0, le=100, description="How many of the most frequent words to list.")
    min_word_length: int = Field(
        1, ge=1, le=30, description="Shorter words are counted, but not listed as frequent."
    )
    words_per_minute: int = Field(
        230, ge=50, le=1000, description="Reading speed behind the reading time."
    )


class WordCount(SkillOutput):
    word: str
    count: int


class Output(SkillOutput):
    characters: int
    characters_without_spaces: int
    words: int
    unique_words: int
    sentences: int
    paragraphs: int
    average_word_length: float
    average_sentence_words: float
    reading_seconds: int
    top_words: list[WordCount]
