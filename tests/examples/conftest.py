"""Example skills run in a process of their own, as they do on a node; pytest never imports them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SHIM = ROOT / "src" / "swarmharness" / "skills" / "guest" / "shim"

# Loads a folder as HarnessAPI does: a package without __init__, found by its path.
RUNNER = """
import asyncio, importlib, inspect, json, sys, types
from pathlib import Path

shim, folder = sys.argv[1:]
sys.path.insert(0, shim)
package = types.ModuleType("the_skill")
package.__path__ = [folder]
sys.modules["the_skill"] = package
models = importlib.import_module("the_skill.models")
handle = importlib.import_module("the_skill.handler").handle
from harnessapi import SkillInput, SkillOutput
from pydantic import ValidationError
assert issubclass(models.Input, SkillInput) and issubclass(models.Output, SkillOutput)

async def run(payload):
    try:
        value = models.Input.model_validate(payload)
    except ValidationError as error:
        faults = error.errors()
        return {
            "refused": [".".join(map(str, fault["loc"])) for fault in faults],
            "reasons": [fault["msg"] for fault in faults],
        }
    if inspect.isasyncgenfunction(handle):
        return {"chunks": [chunk async for chunk in handle(value)]}
    output = await handle(value)
    assert type(output) is models.Output
    return {"output": output.model_dump(mode="json")}

for line in sys.stdin:
    print(json.dumps(asyncio.run(run(json.loads(line)))), flush=True)
"""


@pytest.fixture(scope="session")
def data() -> Path:
    return ROOT / "examples" / "data"


@pytest.fixture(scope="session")
def run_example() -> Callable[..., list[dict[str, Any]]]:
    """Runs one skill on each payload, all in one child process, and returns what became of each."""

    def run(skill: str, *payloads: object) -> list[dict[str, Any]]:
        folder = ROOT / "examples" / "skills" / skill
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-c", RUNNER, str(SHIM), str(folder)],
            input="\n".join(json.dumps(payload) for payload in payloads),
            capture_output=True,
            text=True,
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run
