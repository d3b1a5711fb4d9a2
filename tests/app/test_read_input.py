"""What `--input` means, and how much of it is read."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from swarmharness.app import task_commands
from swarmharness.app.task_commands import read_input
from swarmharness.skills.errors import InputTooLarge, InvalidInput


class Stdin:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_the_bytes_are_kept_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "input.json"
    path.write_bytes(b' {"n": 1.50}\n')
    assert read_input(f"@{path}") == b' {"n": 1.50}\n'
    assert read_input('{"n": 1e300}') == b'{"n": 1e300}'
    monkeypatch.setattr(sys, "stdin", Stdin(b"[1, 2]"))
    assert read_input("-") == b"[1, 2]"


def test_too_much_is_refused_and_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(task_commands, "INPUT_LIMIT", 10)
    path = tmp_path / "input.json"
    path.write_bytes(b" " * 8 + b"{}")
    assert read_input(f"@{path}").strip() == b"{}"
    path.write_bytes(b" " * 9 + b"{}")
    with pytest.raises(InputTooLarge):
        read_input(f"@{path}")
    stdin = Stdin(b" " * 1000)
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(InputTooLarge):
        read_input("-")
    assert stdin.buffer.tell() == 11
    with pytest.raises(InputTooLarge):
        read_input(" " * 11)


@pytest.mark.parametrize("text", ["nul", "'x'", "{", "\udcff", "@/does/not/exist"])
def test_what_is_no_json_is_refused(text: str):
    with pytest.raises(InvalidInput) as caught:
        read_input(text)
    assert caught.value.hint
