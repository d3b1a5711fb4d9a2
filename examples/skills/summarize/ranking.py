"""TextRank without a matrix: which sentences say what most other sentences also say.

Two sentences are alike if they share words, rare words counting more (TF-IDF, cosine). A
sentence is central if central sentences are like it, which is the PageRank of the graph of
likeness. That graph has n² edges, but its matrix is V·Vᵀ with V the sparse table of word
weights, so one step of the iteration is two passes over V: linear in the length of the text.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

DAMPING = 0.85  # PageRank's usual value
ROUNDS = 60  # 0.85 ** 60 < 0.0001, below what the order of sentences depends on
ALONE = 1e-9  # likeness to all others below which a sentence has none but rounding errors
TOO_ALIKE = 0.75  # cosine above which a second sentence would only repeat the first

Vector = dict[str, float]


def sentence_vectors(sentences: Sequence[Sequence[str]]) -> list[Vector]:
    """Word weights of each sentence, scaled to length 1. No stop list is needed in any
    language: a word that stands in every sentence weighs nothing."""
    spread = Counter(word for words in sentences for word in set(words))
    vectors = []
    for words in sentences:
        weights = {
            word: count * math.log(len(sentences) / spread[word])
            for word, count in Counter(words).items()
        }
        length = math.sqrt(sum(weight * weight for weight in weights.values()))
        vectors.append({w: x / length for w, x in weights.items() if x} if length else {})
    return vectors


def centrality(vectors: Sequence[Vector]) -> list[float]:
    """A score for each sentence; the highest is 1."""
    degrees = _likeness_to_all(vectors, [1.0] * len(vectors))
    scores = [1.0] * len(vectors)
    for _ in range(ROUNDS):
        shares = [s / d if d > ALONE else 0.0 for s, d in zip(scores, degrees, strict=True)]
        received = _likeness_to_all(vectors, shares)
        scores = [1 - DAMPING + DAMPING * value for value in received]
    highest = max(scores, default=1.0)
    return [score / highest for score in scores]


def choose(vectors: Sequence[Vector], scores: Sequence[float], count: int) -> list[int]:
    """The positions of the best `count` sentences, without near repetitions, in text order."""
    chosen: list[int] = []
    for position in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if len(chosen) == count:
            break
        if all(_cosine(vectors[position], vectors[other]) < TOO_ALIKE for other in chosen):
            chosen.append(position)
    return sorted(chosen)


def _likeness_to_all(vectors: Sequence[Vector], values: Sequence[float]) -> list[float]:
    """(V·Vᵀ − I)·values: what each sentence receives from all the others, but not itself."""
    by_word: defaultdict[str, float] = defaultdict(float)
    for vector, value in zip(vectors, values, strict=True):
        for word, weight in vector.items():
            by_word[word] += weight * value
    received = []
    for vector, value in zip(vectors, values, strict=True):
        total = sum(weight * by_word[word] for word, weight in vector.items())
        # Rounding may leave a sentence like no other a hair below zero.
        received.append(max(0.0, total - (value if vector else 0.0)))
    return received


def _cosine(one: Vector, other: Vector) -> float:
    if len(one) > len(other):
        one, other = other, one
    return sum(weight * other.get(word, 0.0) for word, weight in one.items())
