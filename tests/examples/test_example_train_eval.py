from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow  # importing scikit-learn takes a second of CPU

SAMPLES = {"iris": 150, "wine": 178, "digits": 1797}


def test_every_hyperparameter_file_trains_well_and_the_same_each_time(run_example, data):
    files = sorted((data / "hyperparameters").glob("*.json"))
    payloads = [json.loads(file.read_text()) for file in files]
    done = run_example("train_eval", *payloads, *payloads)
    outputs = [one["output"] for one in done]
    assert outputs[: len(files)] == outputs[len(files) :]
    for payload, output in zip(payloads, outputs, strict=False):
        assert output["accuracy"] > 0.88
        assert output["train_samples"] + output["test_samples"] == SAMPLES[payload["dataset"]]
        matrix = output["confusion"]
        right = sum(matrix[i][i] for i in range(len(matrix)))
        assert sum(map(sum, matrix)) == output["test_samples"]
        assert output["accuracy"] == pytest.approx(right / output["test_samples"], abs=1e-6)
        assert len(output["classes"]) == len(matrix)
        assert (output["cross_validation"] is not None) == ("folds" in payload)


def test_hyperparameters_and_seed_matter(run_example):
    stump = {"kind": "random_forest", "trees": 1, "max_depth": 1}
    good, poor, other = run_example(
        "train_eval",
        {"dataset": "digits", "model": {"kind": "support_vectors"}},
        {"dataset": "digits", "model": stump},
        {"dataset": "digits", "model": stump, "seed": 5},
    )
    assert good["output"]["accuracy"] > 0.95
    assert poor["output"]["accuracy"] < 0.4
    assert poor["output"]["confusion"] != other["output"]["confusion"]


def test_few_iterations_are_allowed_and_an_empty_input_is_complete(run_example):
    few, empty = run_example(
        "train_eval",
        {"model": {"kind": "logistic_regression", "max_iterations": 10}, "dataset": "digits"},
        {},
    )
    assert few["output"]["accuracy"] > 0.5
    assert empty["output"]["classes"] == ["setosa", "versicolor", "virginica"]


def test_bad_input_is_refused_by_the_model(run_example):
    done = run_example(
        "train_eval",
        {"dataset": "census"},
        {"model": {"kind": "oracle"}},
        {"model": {"kind": "neighbours", "trees": 3}},
        {"model": {"kind": "random_forest", "trees": 100_000}},
        {"test_share": 1.0},
        {"seed": -1},
        {"folds": 1},
    )
    assert [one.get("refused") for one in done] == [
        ["dataset"],
        ["model"],
        ["model.neighbours.trees"],
        ["model.random_forest.trees"],
        ["test_share"],
        ["seed"],
        ["folds"],
    ]
