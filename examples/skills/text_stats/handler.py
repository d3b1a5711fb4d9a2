"""Count words, sentences and characters of a text, its most frequent words and reading time."""

from collections import Counter

from .models import Input, Output, WordCount
from .words import count_paragraphs, count_sentences, words


async def handle(request: Input) -> Output:
    found = words(request.text)
    counts = Counter(word.casefold() for word in found)
    sentences = count_sentences(request.text)
    frequent = sorted(
        (pair for pair in counts.items() if len(pair[0]) >= request.min_word_length),
        key=lambda pair: (-pair[1], pair[0]),
    )
    return Output(
        characters=len(request.text),
        characters_without_spaces=sum(1 for character in request.text if not character.isspace()),
        words=len(found),
        unique_words=len(counts),
        sentences=sentences,
        paragraphs=count_paragraphs(request.text),
        average_word_length=_ratio(sum(map(len, found)), len(found)),
        average_sentence_words=_ratio(len(found), sentences),
        reading_seconds=round(len(found) * 60 / request.words_per_minute),
        top_words=[WordCount(word=word, count=count) for word, count in frequent[: request.top]],
    )


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 2) if whole else 0.0
