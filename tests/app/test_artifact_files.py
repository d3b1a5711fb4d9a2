"""Where the files of a task go, and whose files they never replace."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from swarmharness.app.artifact_files import ArtifactFiles
from swarmharness.app.errors import FileNotKept
from swarmharness.sdk.errors import NodeUnresponsive


def artifact(content: bytes = b"new", name: str = "f.txt") -> dict[str, Any]:
    encoded = base64.b64encode(content).decode()
    return {"name": name, "size": len(content), "content_base64": encoded}


def test_a_file_is_kept_and_its_place_told(tmp_path: Path):
    told = artifact()
    ArtifactFiles(tmp_path / "new" / "out").save(told)
    assert (tmp_path / "new" / "out" / "f.txt").read_bytes() == b"new"
    assert told == {"name": "f.txt", "size": 3, "path": str(tmp_path / "new" / "out" / "f.txt")}


def test_without_a_directory_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ArtifactFiles(None).save(artifact())
    assert "--out" in capsys.readouterr().err


def test_nobody_s_file_is_overwritten(tmp_path: Path):
    mine = tmp_path / "f.txt"
    mine.write_bytes(b"mine")
    files = ArtifactFiles(tmp_path)
    with pytest.raises(FileNotKept) as caught:
        files.save(artifact())
    assert str(mine) in caught.value.sentence
    files.drop()
    assert mine.read_bytes() == b"mine"


def test_the_next_attempt_makes_its_files_anew(tmp_path: Path):
    files = ArtifactFiles(tmp_path)
    files.save(artifact(b"of the first"))
    files.drop()
    files.save(artifact(b"of the second"))
    assert (tmp_path / "f.txt").read_bytes() == b"of the second"


def test_what_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotKept):
        ArtifactFiles(tmp_path / "file").save(artifact())
    with pytest.raises(FileNotKept):
        ArtifactFiles(tmp_path).save(artifact(name=".."))


def test_content_that_is_no_base64_is_the_node_s_fault(tmp_path: Path):
    with pytest.raises(NodeUnresponsive):
        ArtifactFiles(tmp_path).save({"name": "f", "size": 1, "content_base64": "a"})
    assert not list(tmp_path.iterdir())
