"""The generated documents say what the code says now, and their generator sees what it should."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("commands.md", "errors.md", "glossary.md", "limits.md", "tasks.md")


@pytest.fixture(scope="module")
def generator():
    tools = str(ROOT / "tools")
    sys.path.insert(0, tools)
    yield importlib.import_module("generate_docs")
    sys.path.remove(tools)


@pytest.fixture
def documents(generator):
    return importlib.import_module("documents")


@pytest.mark.parametrize("name", NAMES)
def test_document_is_fresh(generator, name):
    written = (ROOT / "docs" / name).read_text()
    # Line by line: an assertion over two long texts would hide which line it is.
    now = generator.DOCUMENTS[name]().splitlines()
    stale = [line for line in now if line not in set(written.splitlines())]
    assert stale == [], "type: make docs"
    assert now == written.splitlines(), "type: make docs"


def test_every_document_is_compared(generator):
    assert tuple(generator.DOCUMENTS) == NAMES


def test_writing_changes_only_what_is_stale(generator, monkeypatch, tmp_path):
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(generator, "ROOT", tmp_path)
    monkeypatch.setattr(generator, "DOCUMENTS", {"a.md": lambda: "a\n", "b.md": lambda: "b\n"})
    (tmp_path / "docs" / "a.md").write_text("a\n")
    assert generator.write_all() == ["b.md"]
    assert generator.write_all() == []


def test_limits_are_numbers_with_a_reason(documents, tmp_path):
    limits = importlib.import_module("documents.limits")
    (tmp_path / "rooms.py").write_text(
        '"""Rooms."""\n'
        "QUEUE_LIMIT = 8 * 1024  # bytes; a page of text\n"
        "PORT = 80\n"
        "UID = 64  # noqa: S1  nobody has it\n"
        "END: Final = 1\n"
        '"""The last message of this call."""\n'
        "ROOMS_MAX: Final = QUEUE_LIMIT\n"
        '"""As many as there are\nseats."""\n'
        'NAME = "n"  # not a number\n'
        "class RoomLimits:\n"
        "    guests: int = 3\n"
        '    """A table has four chairs."""\n'
        "    wait_ms: int = 5_000\n"
    )
    found = {number.name: number for number in limits.numbers(tmp_path / "rooms.py")}
    reasons = {name: number.reason for name, number in found.items() if number.is_limit}
    assert reasons == {
        "QUEUE_LIMIT": "bytes; a page of text",
        "UID": "nobody has it",
        "ROOMS_MAX": "As many as there are seats.",
        "guests": "A table has four chairs.",
        "wait_ms": "",
    }
    assert found["wait_ms"].value == "5_000"


def test_states_are_read_from_the_code_of_the_actions(documents):
    states = importlib.import_module("documents.states")
    steps = {(step.state, step.event): step for step in states._task_steps()}
    assert steps["submitted", "NobodyLeft"].next_states == ["submitted", "failed"]
    assert set(steps["working", "AttemptFailed"].next_states) == {"failed", "submitted"}
    assert steps["offered", "Accepted"].next_states == ["working"]
    assert all(step.next_states for step in steps.values())


def test_first_sentences_end_at_the_first_full_stop(documents):
    sources = importlib.import_module("documents.sources")
    text = "A file of\n`a.py` is one. It has two.\n\nMore."
    assert sources.first_sentence(text) == "A file of `a.py` is one."
