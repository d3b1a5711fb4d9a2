"""Loads corpus folders as the sandbox does, each in a forked child, and prints JSON lines.

Runs in a process of its own, so that the tests themselves never import a handler.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
from pathlib import Path

from swarmharness.skills.guest.describe import describe_json
from swarmharness.skills.guest.loader import SkillLoadError, load_skill

CORPUS = Path(__file__).parent


def observe(folder: Path, call: object) -> dict:
    try:
        loaded = load_skill(folder, "_corpus_skill")
        found = json.loads(describe_json(loaded, folder))
    except SkillLoadError as error:
        return {"error": error.reason}
    found["call"] = None if call is None else asyncio.run(perform(loaded, call))
    return found


async def perform(loaded, call) -> dict:
    result = loaded.handle(loaded.input_model.model_validate(call))
    if inspect.isawaitable(result):
        result = await result
    if inspect.isasyncgen(result):
        return {"chunks": [str(chunk) async for chunk in result]}
    if inspect.isgenerator(result):
        return {"chunks": [str(chunk) for chunk in result]}
    return {"output": result.model_dump(mode="json")}


def main() -> None:
    calls = json.loads((CORPUS / "calls.json").read_text())
    for argument in sys.argv[1:]:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            folder = Path(argument)
            found = observe(folder, calls.get(folder.name))
            sys.stdout.write(json.dumps({"folder": folder.name, "found": found}) + "\n")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
