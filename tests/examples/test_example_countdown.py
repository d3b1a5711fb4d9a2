from __future__ import annotations


def test_numbers_are_streamed_down_to_the_end(run_example):
    done = run_example("countdown", {"start": 3, "delay_ms": 1}, {"start": 1, "delay_ms": 0})
    assert [one["chunks"] for one in done] == [["3", "2", "1", "lift-off"], ["1", "lift-off"]]


def test_a_count_that_could_not_end_in_time_is_refused(run_example):
    done = run_example(
        "countdown",
        {"start": 501, "delay_ms": 100},
        {"start": 0},
        {"start": 2.5},
        {"delay_ms": -1},
    )
    assert [one.get("refused") for one in done] == [[""], ["start"], ["start"], ["delay_ms"]]
