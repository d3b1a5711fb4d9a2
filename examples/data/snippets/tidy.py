"""A small, tidy module: a review should find nothing here."""

from collections.abc import Iterable


def mean(values: Iterable[float]) -> float:
    total = 0.0
    count = 0
    for value in values:
        total += value
        count += 1
    if not count:
        raise ValueError("the mean of nothing is not defined")
    return total / count
