"""The skills of the benchmark, in plain HarnessAPI format: one that echoes, one that streams."""

from __future__ import annotations

import json
from pathlib import Path

WARM = "bench_warm"
FORKED = "bench_forked"
STREAM = "bench_stream"
INPUT = json.dumps({"text": "x" * 1000}).encode()
"""About 1 KiB, as the echoes send."""
PLACES = 8

_ECHO_MODELS = """\
from harnessapi import SkillInput, SkillOutput


class Input(SkillInput):
    text: str


class Output(SkillOutput):
    text: str
"""
_ECHO_HANDLER = '''\
"""Give back what came in."""

from .models import Input, Output


async def handle(request: Input) -> Output:
    return Output(text=request.text)
'''
_STREAM_MODELS = """\
from harnessapi import SkillInput, SkillOutput


class Input(SkillInput):
    count: int


class Output(SkillOutput):
    chunk: str
"""
_STREAM_HANDLER = '''\
"""Stream numbers as fast as they are taken."""

from collections.abc import AsyncIterator

from .models import Input


async def handle(request: Input) -> AsyncIterator[str]:
    for number in range(request.count):
        yield f"chunk {number}"
'''
_WORKER = f"""\
[skill]
description = "A skill of the benchmark."

[swarm]
isolation = "worker"
concurrency = {PLACES}
queue = 256
"""
_FORK = """\
[skill]
description = "A skill of the benchmark."
"""


def write_skills(directory: Path) -> list[Path]:
    """The folders, readable by whom the sandbox runs as."""
    return [
        _write(directory / WARM, _ECHO_MODELS, _ECHO_HANDLER, _WORKER),
        _write(directory / FORKED, _ECHO_MODELS, _ECHO_HANDLER, _FORK),
        _write(directory / STREAM, _STREAM_MODELS, _STREAM_HANDLER, _WORKER),
    ]


def _write(folder: Path, models: str, handler: str, settings: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "models.py").write_text(models)
    (folder / "handler.py").write_text(handler)
    (folder / "skill.toml").write_text(settings)
    return folder
