"""What holds for every example skill and for the data beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmharness.skills.grants import Grant, missing
from swarmharness.skills.manifest import parse_manifest

EXAMPLES = Path(__file__).parents[2] / "examples"
SKILLS = sorted(path.name for path in (EXAMPLES / "skills").iterdir() if path.is_dir())
DATA_LIMIT = 1024 * 1024  # the checkout stays quick to clone


def test_the_six_skills_are_there():
    assert SKILLS == [
        "code_review",
        "countdown",
        "summarize",
        "text_stats",
        "thumbnail",
        "train_eval",
    ]


@pytest.mark.parametrize("name", SKILLS)
def test_a_folder_describes_itself_and_asks_for_no_permission(name):
    folder = EXAMPLES / "skills" / name
    manifest = parse_manifest((folder / "skill.toml").read_bytes())
    assert manifest.skill.get("description") or (folder / "SKILL.md").exists()
    assert not manifest.warnings
    assert missing(manifest.request, Grant()) == ()


@pytest.mark.parametrize("name", SKILLS)
def test_defaults_and_examples_are_valid_inputs(run_example, name):
    folder = EXAMPLES / "skills" / name
    files = [*folder.glob("defaults/input.json"), *sorted(folder.glob("examples/*.json"))]
    assert files
    done = run_example(name, *(json.loads(file.read_text()) for file in files))
    assert [one for one in done if not {"output", "chunks"} & set(one)] == []


def test_the_data_is_small_and_every_folder_is_explained():
    data = EXAMPLES / "data"
    assert sum(file.stat().st_size for file in data.rglob("*") if file.is_file()) < DATA_LIMIT
    readme = (data / "README.md").read_text()
    for folder in (path for path in data.iterdir() if path.is_dir()):
        assert f"`{folder.name}/`" in readme
        assert any(folder.iterdir())
