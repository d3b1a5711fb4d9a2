"""A hint that says what to type must be typeable: its command exists and takes those words."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"`swarm ([^`]*)`")
USAGE = re.compile(r"^Usage: swarm (\w+) \[OPTIONS\](.*)$", re.MULTILINE)


def usages() -> dict[str, int]:
    """How many words each command takes besides its options."""
    text = (ROOT / "docs" / "commands.md").read_text()
    return {name: len(words.split()) for name, words in USAGE.findall(text)}


def untypeable(text: str) -> list[str]:
    """Commands in the text that `swarm` would refuse."""
    known = usages()
    refused = []
    for command in COMMAND.findall(text):
        name, *words = re.sub(r"^--\w+ \S+ ", "", command).split()
        # What follows an option may be its value; words before the first one are arguments.
        first_option = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
        is_family = name == "COMMAND" or name.startswith("--")
        if not is_family and (name not in known or first_option > known[name]):
            refused.append(command)
    return refused


@pytest.mark.parametrize(
    ("planted", "count"),
    [
        ("`swarm skills show NAME`", 1),
        ("`swarm bogus`", 1),
        ("`swarm skills NAME`, `swarm --version`", 0),
        ("`swarm run text_stats --input X`", 0),
        ("`swarm --home DIR up`", 0),
    ],
)
def test_planted_command_is_noticed(planted, count):
    assert len(untypeable(planted)) == count


def test_hints_of_errors_can_be_typed(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    importlib.import_module("documents.errors").import_everything()
    catalogue = sys.modules["swarmharness.kernel.errors"].catalogue()
    refused = {code: found for code, e in catalogue.items() if (found := untypeable(e.hint))}
    assert refused == {}


@pytest.mark.parametrize(
    "path",
    [
        *sorted((ROOT / "src").rglob("*.py")),
        *sorted(ROOT.glob("*.md")),
        *(ROOT / "docs").glob("*.md"),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_commands_in_texts_can_be_typed(path):
    assert untypeable(path.read_text()) == []
