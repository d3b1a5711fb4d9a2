"""What goes to stdout and what to stderr, for people and for programs."""

from __future__ import annotations

import json

import pytest

from swarmharness.app.session import Session
from swarmharness.skills.errors import InvalidInput
from swarmharness.tasks.errors import AttemptsExhausted

INVALID = InvalidInput(
    "The input does not fit.",
    data={"detail": [{"loc": ["a", 0], "msg": "too long"}, {"msg": "odd"}, "not a table"]},
)


def test_programs_get_one_line_on_stdout(capsys: pytest.CaptureFixture[str]):
    session = Session()
    session.is_json = True
    session.data("thing", {"text": "line\nbreak ü"})
    session.failure(INVALID)
    out, err = capsys.readouterr()
    assert err == ""
    good, bad = (json.loads(line) for line in out.splitlines())
    assert good == {"schema": "swarm.thing/1", "ok": True, "data": {"text": "line\nbreak ü"}}
    assert bad["error"]["code"] == INVALID.code
    assert bad["error"]["blame"] == "caller"
    assert bad["error"]["data"] == INVALID.data


def test_people_get_sentence_details_hint_and_code_on_stderr(capsys: pytest.CaptureFixture[str]):
    Session().failure(INVALID)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "✗ The input does not fit."
    assert lines[1:3] == ["  a.0: too long", "  input: odd"]
    assert lines[-2] == f"  → {INVALID.hint}"
    assert lines[-1] == f"  [{INVALID.code}]"


def test_each_attempt_is_told(capsys: pytest.CaptureFixture[str]):
    attempts = [{"node": "abcd", "started": True, "code": "x.y", "sentence": "It broke."}]
    Session().failure(AttemptsExhausted("All failed.", data={"attempts": attempts}))
    assert "  node abcd: It broke." in capsys.readouterr().err.splitlines()


ODD = [None, 1, "text", [], [1], [None], [[]], {}, {"a": 1}, [{}], [{"node": 1}], [{"loc": 5}]]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("member", ["attempts", "detail"])
def test_odd_data_is_left_out(capsys: pytest.CaptureFixture[str], member: str, value: object):
    Session().failure(InvalidInput("The input does not fit.", data={member: value}))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "✗ The input does not fit."
    assert lines[-1] == f"  [{INVALID.code}]"
