"""Asks the real HarnessAPI what it makes of the corpus, and prints that as JSON.

Run it with a Python that has harnessapi: `python upstream.py > golden.json` refreshes what the
differential test compares with. Every folder is loaded in a process of its own, because one
broken folder is enough to stop HarnessAPI.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import warnings
from pathlib import Path

CORPUS = Path(__file__).parent


def observe(folder: Path, call: object) -> dict:
    from harnessapi.discovery import SkillsDirectoryProvider

    sys.path.append(str(folder.parent.parent))
    provider = SkillsDirectoryProvider(folder.parent)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            skill = provider._load_skill(folder)
        except BaseException as error:  # noqa: BLE001  whatever stops it is the answer
            return {"error": type(error).__name__}
    if skill is None:
        return {"skipped": True, "is_warned": bool(caught)}
    meta = dataclasses.asdict(skill.meta)
    instructions = meta.pop("instructions")
    return {
        "metadata": meta,
        "instructions": instructions,
        "kind": "stream" if skill.is_streaming_handler() else "plain",
        "input_schema": skill.input_model.model_json_schema(mode="validation"),
        "output_schema": skill.output_model.model_json_schema(mode="serialization", by_alias=False),
        "examples": skill.examples,
        "defaults": skill.defaults,
        "call": None if call is None else asyncio.run(perform(skill, call)),
    }


async def perform(skill, call) -> dict:
    """As the JSON and SSE routes do it, without the web server between."""
    value = skill.input_model.model_validate(call)
    try:
        if skill.is_streaming_handler():
            return {"chunks": [str(chunk) async for chunk in skill.effective_handler(value)]}
        result = await skill.effective_handler(value)
        return {"output": json.loads(result.model_dump_json())}
    except Exception as error:  # noqa: BLE001  whatever it raises is the answer
        return {"error": type(error).__name__}


def observe_apart(folder: Path, call: object) -> dict:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as answer:
            json.dump(observe(folder, call), answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        found = json.load(answer)
    os.waitpid(child, 0)
    return found


def main() -> None:
    import harnessapi.discovery  # noqa: F401  once, before the forks

    calls = json.loads((CORPUS / "calls.json").read_text())
    golden = {}
    for group in ("skills", "negatives", "duplicates"):
        folders = sorted(
            path
            for path in (CORPUS / group).iterdir()
            if path.is_dir() and not path.name.startswith("_")
        )
        golden[group] = {
            folder.name: observe_apart(folder, calls.get(folder.name)) for folder in folders
        }
    json.dump(golden, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
