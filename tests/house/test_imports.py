"""The import contracts catch what they forbid, and processes load only what they need."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"pydantic", "yaml", "httpx", "uvicorn", "starlette", "numpy", "sklearn", "scipy"}
NEVER_IN_A_NODE = {"pydantic", "pydantic_core", "yaml"}
"""They parse what skill folders bring along; that happens in sandboxes."""


def modules_of(program: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded when the program ends."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{program}\nimport json, sys; print(json.dumps(list(sys.modules)))",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


HELP = """
import sys
from swarmharness.app.main import main
sys.argv = ["swarm", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code
"""


def test_help_loads_little():
    assert modules_of(HELP) & HEAVY == set()


def test_a_loaded_module_would_be_noticed():
    assert modules_of("import yaml") & HEAVY == {"yaml"}


def test_a_node_never_loads_what_parses_skill_folders():
    assert modules_of("import swarmharness.node.node") & NEVER_IN_A_NODE == set()


@pytest.fixture(scope="module")
def copy_of_the_sources(tmp_path_factory):
    """A checkout in which something may be planted."""
    copy = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(checkout: Path) -> subprocess.CompletedProcess[str]:
    # The copy comes first on the path, before the installed package.
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_contracts_hold(copy_of_the_sources):
    assert lint(copy_of_the_sources).returncode == 0


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("kernel/ids.py", "import swarmharness.network.address", "Imports point only downwards"),
        ("tasks/task.py", "import swarmharness.skills.call", "Imports point only downwards"),
        ("node/home.py", "import swarmharness.skills.guest.frames", "runs inside the sandbox"),
        ("node/home.py", "import pydantic", "pydantic or yaml"),
    ],
)
def test_contracts_catch_a_planted_import(copy_of_the_sources, file, line, contract):
    path = copy_of_the_sources / "src" / "swarmharness" / file
    clean = path.read_text()
    path.write_text(f"{clean}\n{line}\n")
    try:
        answer = lint(copy_of_the_sources)
    finally:
        path.write_text(clean)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    broken = [text for text in answer.stdout.splitlines() if text.endswith("BROKEN")]
    assert len(broken) == 1
    assert contract in broken[0]
