"""Shorten a text to its most central sentences, in their own words and order."""

from .models import Input, Output, RankedSentence
from .ranking import centrality, choose, sentence_vectors
from .sentences import split_sentences, words_of


async def handle(request: Input) -> Output:
    sentences = split_sentences(request.text)
    vectors = sentence_vectors([words_of(sentence) for sentence in sentences])
    scores = centrality(vectors)
    kept = [
        RankedSentence(position=i, score=round(scores[i], 4), text=sentences[i])
        for i in choose(vectors, scores, request.sentences)
    ]
    summary = " ".join(sentence.text for sentence in kept)
    return Output(
        summary=summary,
        sentences=kept,
        source_sentences=len(sentences),
        kept_share=round(min(1.0, len(summary) / len(request.text)), 4),
    )
