"""Skill folders mean to us what they mean to HarnessAPI, except where we say otherwise.

`corpus/golden.json` is what the real package made of the corpus; every test run compares with
it. Where the real package is at hand, the golden file itself is checked against it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarmharness.skills.description import decode_description
from swarmharness.skills.io.discovery import scan
from swarmharness.skills.manifest import parse_manifest
from swarmharness.skills.metadata import merge_metadata

CORPUS = Path(__file__).parent / "corpus"
GOLDEN = json.loads((CORPUS / "golden.json").read_text())
SKILLS = sorted(name for name, found in GOLDEN["skills"].items() if "metadata" in found)

INTENDED: dict[str, dict[str, tuple[Any, Any]]] = {
    "front_matter_odd": {
        # HarnessAPI cuts the front matter at the first three dashes anywhere, and what it does
        # read stays text.
        "description": (
            "A folded description with",
            "A folded description with --- three dashes inside and a second line.",
        ),
        "is_mcp": (True, False),
        "tags": ([], ["first", "second"]),
        "timeout_secs": (30.0, 12.0),
        "allowed_tools": ([], ["Read", "Bash(git add *)"]),
        "instructions": (
            GOLDEN["skills"]["front_matter_odd"]["instructions"],
            "Body.",
        ),
    },
    # Synchronous handlers, and generators behind decorators, fail there at the first call.
    "sync_plain": {"call": ({"error": "TypeError"}, {"output": {"text": "hi"}})},
    "sync_stream": {
        "kind": ("plain", "stream"),
        "call": ({"error": "TypeError"}, {"chunks": ["one", "two"]}),
    },
    "wrapped_stream": {
        "kind": ("plain", "stream"),
        "call": ({"error": "TypeError"}, {"chunks": ["hi"]}),
    },
}
"""(HarnessAPI, ours), wherever the two differ on purpose."""


def bench_python() -> str | None:
    """The interpreter of the bench extra, if that is installed."""
    local = Path(__file__).parents[2] / ".venvs" / "bench" / "bin" / "python"
    for candidate in (os.environ.get("SWARM_BENCH_PYTHON"), str(local), sys.executable):
        if candidate and Path(candidate).exists():
            probe = subprocess.run([candidate, "-c", "import harnessapi"], capture_output=True)
            if probe.returncode == 0:
                return candidate
    return None


@pytest.fixture(scope="module")
def ours() -> dict[str, dict]:
    folders = [str(CORPUS / "skills" / name) for name in SKILLS]
    done = subprocess.run(
        [sys.executable, "-BP", str(CORPUS / "ours.py"), *folders],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {line["folder"]: line["found"] for line in map(json.loads, done.stdout.splitlines())}


def presented(name: str, found: dict) -> dict[str, Any]:
    """Our view of a skill, in the words of HarnessAPI's."""
    call = found.pop("call")
    description = decode_description(json.dumps(found).encode())
    toml = CORPUS / "skills" / name / "skill.toml"
    metadata = merge_metadata(
        parse_manifest(toml.read_bytes() if toml.exists() else None).skill,
        description.front_matter,
        docstring=description.docstring,
        folder_name=name,
    )
    flat = msgspec.to_builtins(metadata)
    flat["timeout_secs"] = flat.pop("timeout_ms") / 1000
    flat |= {key: list(flat[key]) for key in ("tags", "allowed_tools")}
    for key in ("kind", "instructions", "input_schema", "output_schema", "examples", "defaults"):
        flat[key] = getattr(description, key)
    return flat | {"call": call}


@pytest.mark.parametrize("name", SKILLS)
def test_a_skill_means_the_same(ours, name):
    golden = dict(GOLDEN["skills"][name])
    expected = golden.pop("metadata") | golden
    for key, (theirs, own) in INTENDED.get(name, {}).items():
        assert expected[key] == theirs, f"{name}: {key} no longer differs; drop it from INTENDED"
        expected[key] = own
    assert presented(name, dict(ours[name])) == expected


@pytest.mark.parametrize("group", ["skills", "negatives", "duplicates"])
def test_discovery_finds_the_same_folders_in_the_same_order(group):
    found, _ = scan([CORPUS / group])
    listed = [folder.path.name for folder in found if folder.kind == "skill"]
    theirs = [name for name, entry in GOLDEN[group].items() if not entry.get("skipped")]
    assert listed == sorted(theirs)
    warned = [folder.path.name for folder in found if folder.kind == "instructions"]
    assert warned == [name for name, entry in GOLDEN[group].items() if entry.get("is_warned")]


def test_the_golden_file_is_what_the_real_package_says():
    python = bench_python()
    if python is None:
        pytest.skip(
            "NOT COMPARED WITH THE REAL HarnessAPI: no interpreter has it. Install the bench "
            "extra, or set SWARM_BENCH_PYTHON to a Python with harnessapi."
        )
    done = subprocess.run(
        [python, "-B", str(CORPUS / "upstream.py")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == GOLDEN
