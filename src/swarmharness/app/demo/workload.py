"""The workload of the demo: real inputs for the example skills, the same at every run."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import swarmharness
from swarmharness.app.demo.errors import ExamplesMissing

COUNTDOWNS = 12  # slow on purpose: there is always something to fail over when the node is killed


class Job(NamedTuple):
    """One task to send."""

    skill: str
    input_json: bytes


def examples_directory() -> Path:
    """Inside an installed package, or beside the source in a checkout."""
    package = Path(swarmharness.__file__).parent
    for place in (package / "examples", package.parents[1] / "examples"):
        if (place / "skills").is_dir():
            return place
    raise ExamplesMissing("This installation does not carry the example skills.")


def make_workload(examples: Path, count: int, *, seed: int = 7) -> list[Job]:
    """`count` jobs over all six example skills, mixed by a fixed seed."""
    data = examples / "data"
    articles = [path.read_text() for path in sorted(data.glob("articles/*.txt"))]
    pictures = [path.read_bytes() for path in sorted(data.glob("pictures/*.*"))]
    snippets = [path.read_text() for path in sorted(data.glob("snippets/*.py"))]
    trainings = [
        msgspec.json.decode(path.read_bytes()) for path in sorted(data.glob("hyperparameters/*"))
    ]
    rng = random.Random(seed)  # noqa: S311  a repeatable mixture, no secret
    makers: list[Callable[[], tuple[str, Any]]] = [
        lambda: ("text_stats", {"text": rng.choice(articles)}),
        lambda: ("summarize", {"text": rng.choice(articles), "sentences": rng.randint(1, 4)}),
        lambda: ("code_review", {"source": rng.choice(snippets)}),
        lambda: ("thumbnail", _thumbnail(rng.choice(pictures), rng.choice([64, 96, 160]))),
        lambda: ("train_eval", rng.choice(trainings)),
    ]
    weights = [4, 3, 3, 2, 1]
    jobs = [("countdown", {"start": 5, "delay_ms": 150})] * min(COUNTDOWNS, count)
    jobs += [rng.choices(makers, weights)[0]() for _ in range(count - len(jobs))]
    rng.shuffle(jobs)
    return [Job(skill, msgspec.json.encode(value)) for skill, value in jobs]


def _thumbnail(picture: bytes, edge: int) -> dict[str, Any]:
    return {
        "image_base64": base64.b64encode(picture).decode(),
        "max_width": edge,
        "max_height": edge,
    }
