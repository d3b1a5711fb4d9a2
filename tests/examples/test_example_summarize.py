from __future__ import annotations

import pytest


@pytest.mark.parametrize("name", ["bread", "swarm", "tides", "velo", "wald"])
def test_the_summary_is_made_of_sentences_of_the_text(run_example, data, name):
    text = (data / "articles" / f"{name}.txt").read_text()
    [done] = run_example("summarize", {"text": text, "sentences": 4})
    output = done["output"]
    flat = " ".join(text.split())
    positions = [sentence["position"] for sentence in output["sentences"]]
    assert len(positions) == 4
    assert positions == sorted(set(positions))
    assert all(sentence["text"] in flat for sentence in output["sentences"])
    assert max(sentence["score"] for sentence in output["sentences"]) == 1.0
    assert output["summary"] == " ".join(sentence["text"] for sentence in output["sentences"])
    assert 0 < output["kept_share"] < 0.5
    assert output["source_sentences"] > 15


def test_the_central_sentence_wins_and_repetition_does_not(run_example):
    text = (
        "Bees dance to show where food is. Bees dance to show where the food is. "
        "The beekeeper reads a newspaper. A dance of bees tells the distance of food. "
        "Clouds pass."
    )
    [done] = run_example("summarize", {"text": text, "sentences": 2})
    assert [sentence["position"] for sentence in done["output"]["sentences"]] == [1, 3]


def test_short_and_odd_texts(run_example):
    done = run_example(
        "summarize",
        {"text": "One sentence only"},
        {"text": "One. One. One."},
        {"text": "我喜欢茶。他喜欢茶和水。天很蓝。", "sentences": 1},
        {"text": "?!... --"},
        {"text": "." * 199_999 + "x"},
    )
    assert done[0]["output"]["summary"] == "One sentence only"
    assert done[1]["output"]["summary"] == "One. One. One."
    assert done[2]["output"]["source_sentences"] == 3
    assert done[3] == {"refused": ["text"], "reasons": ["Value error, the text holds no words"]}
    assert done[4]["output"]["source_sentences"] == 1


def test_bad_input_is_refused_by_the_model(run_example):
    done = run_example(
        "summarize",
        {"text": ""},
        {"text": "x" * 200_001},
        {"text": "x", "sentences": 0},
        {"text": "x", "sentences": 51},
        {"text": "x", "sentences": "many"},
    )
    assert [one.get("refused") for one in done] == [["text"]] * 2 + [["sentences"]] * 3
