from __future__ import annotations


def test_the_shortest_input_has_defaults(run_example):
    [done] = run_example("text_stats", {"text": "hello world"})
    assert done["output"] == {
        "characters": 11,
        "characters_without_spaces": 10,
        "words": 2,
        "unique_words": 2,
        "sentences": 1,
        "paragraphs": 1,
        "average_word_length": 5.0,
        "average_sentence_words": 2.0,
        "reading_seconds": 1,
        "top_words": [{"word": "hello", "count": 1}, {"word": "world", "count": 1}],
    }


def test_an_article_is_counted(run_example, data):
    text = (data / "articles" / "bread.txt").read_text()
    [done] = run_example("text_stats", {"text": text, "top": 3, "min_word_length": 5})
    output = done["output"]
    # In this article every full stop ends a sentence, and the title joins the first one.
    assert output["words"] == len(text.split())
    assert output["paragraphs"] == 7
    assert output["sentences"] == text.count(".")
    assert output["top_words"][0] == {"word": "dough", "count": 8}
    assert all(len(word["word"]) >= 5 for word in output["top_words"])


def test_words_of_other_scripts(run_example):
    texts = [
        "हिन्दी भाषा",
        "我喜欢茶。你呢？",
        "don't re-use l'œuvre",
        "naïve cafe\u0301",
        "a_b",
        "...",
    ]
    done = run_example("text_stats", *({"text": text} for text in texts))
    counted = [(one["output"]["words"], one["output"]["sentences"]) for one in done]
    assert counted == [(2, 1), (6, 2), (3, 1), (2, 1), (2, 1), (0, 0)]


def test_an_abbreviation_does_not_end_a_sentence(run_example):
    [done] = run_example("text_stats", {"text": 'Bring fruit, e.g. apples. "Really?" Yes...'})
    assert done["output"]["sentences"] == 3


def test_hostile_repetitions_take_linear_time(run_example):
    """Quadratic matching would need hours for these, and the test run would be cut off."""
    texts = ["." * 499_999 + "x", ". " * 250_000, "a-" * 250_000, "\n \n" * 160_000 + "x"]
    done = run_example("text_stats", *({"text": text} for text in texts))
    assert [one["output"]["sentences"] for one in done] == [1, 0, 1, 1]


def test_bad_input_is_refused_by_the_model(run_example):
    done = run_example(
        "text_stats",
        {},
        {"text": ""},
        {"text": 7},
        {"text": "x" * 500_001},
        {"text": "x", "top": 101},
        {"text": "x", "words_per_minute": 0},
        {"text": "x", "surprise": 1},
        ["text"],
    )
    assert [one.get("refused") for one in done] == [
        ["text"],
        ["text"],
        ["text"],
        ["text"],
        ["top"],
        ["words_per_minute"],
        ["surprise"],
        [""],
    ]
