from typing import Annotated, Literal

from harnessapi import SkillInput, SkillOutput
from pydantic import Field

# The ceilings keep the slowest allowed training below ten seconds on one slow core.


class LogisticRegression(SkillInput):
    kind: Literal["logistic_regression"]
    c: float = Field(1.0, gt=0, le=1000, description="Inverse strength of the regularisation.")
    max_iterations: int = Field(500, ge=10, le=2000)


class RandomForest(SkillInput):
    kind: Literal["random_forest"]
    trees: int = Field(100, ge=1, le=300)
    max_depth: int | None = Field(None, ge=1, le=64)
    min_samples_leaf: int = Field(1, ge=1, le=50)


class SupportVectors(SkillInput):
    kind: Literal["support_vectors"]
    c: float = Field(1.0, gt=0, le=1000)
    kernel: Literal["rbf", "linear", "poly"] = "rbf"
    gamma: Literal["scale", "auto"] = "scale"


class Neighbours(SkillInput):
    kind: Literal["neighbours"]
    neighbours: int = Field(5, ge=1, le=50)
    weights: Literal["uniform", "distance"] = "uniform"


Model = Annotated[
    LogisticRegression | RandomForest | SupportVectors | Neighbours,
    Field(discriminator="kind"),
]


class Input(SkillInput):
    dataset: Literal["iris", "wine", "digits"] = "iris"
    model: Model = Field(default_factory=lambda: RandomForest(kind="random_forest"))
    test_share: float = Field(0.25, ge=0.1, le=0.5, description="Kept back to measure with.")
    folds: int | None = Field(
        None, ge=2, le=5, description="Also cross-validate the training part in this many folds."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Same input, same seed: same answer.")


class CrossValidation(SkillOutput):
    mean: float
    spread: float = Field(description="Standard deviation between the folds.")


class Output(SkillOutput):
    accuracy: float
    macro_f1: float
    classes: list[str]
    confusion: list[list[int]] = Field(description="Rows: what it is; columns: what was said.")
    train_samples: int
    test_samples: int
    cross_validation: CrossValidation | None
