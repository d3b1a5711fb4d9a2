"""Runs attacks directly under `launch`, with the guest's own confinement and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skills.attacks.attack_table import Attack
from skills.attacks.host_world import INSIDE, host_world
from swarmharness.skills.sandbox import mounts
from swarmharness.skills.sandbox.confinement import Confinement, Mount
from swarmharness.skills.sandbox.launch import Switches, launch
from swarmharness.skills.sandbox.tiers import Tier

RANGE_TARGET = "/app/range"
PATIENCE_SECONDS = 120  # only a hang takes that long


def fire(
    attacks: Iterable[Attack],
    *,
    tier: Tier,
    mode: str,
    switches: Switches = Switches(),  # noqa: B008
) -> dict[str, str]:
    """The answer to each attack; the sandbox must survive all of them."""
    with host_world() as facts:
        answers = asyncio.run(_fire(list(attacks), facts, tier, mode, switches))
        assert Path(facts["victim_file"]).read_text() == "intact"
    return answers


def fire_unprotected(attacks: Iterable[Attack]) -> dict[str, str]:
    """The same code in an ordinary process of this machine."""
    with (
        host_world() as facts,
        orders(list(attacks), facts) as folder,
        tempfile.TemporaryFile() as answers,
    ):
        subprocess.run(
            [
                *(sys.executable, "-I", str(folder / "range.py")),
                *(str(answers.fileno()), mounts.base_mounts()[-1].source),
                *(str(folder), "unprotected"),
            ],
            env={**os.environ, "TMPDIR": facts["directory"]},
            pass_fds=[answers.fileno()],
            check=True,
        )
        answers.seek(0)
        return dict(map(json.loads, answers))


async def _fire(
    attacks: list[Attack], facts: dict[str, Any], tier: Tier, mode: str, switches: Switches
) -> dict[str, str]:
    with orders(attacks, facts) as folder:
        descriptor = os.memfd_create("answers")
        try:
            process = await launch(
                Confinement(mounts=(*mounts.base_mounts(), Mount(str(folder), RANGE_TARGET))),
                argv=[
                    *mounts.python_argv(),
                    f"{RANGE_TARGET}/range.py",
                    str(descriptor),
                    mounts.GUEST_TARGET,
                    RANGE_TARGET,
                    mode,
                ],
                pass_fds=[descriptor],
                tier=tier,
                switches=switches,
            )
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    status = await process.wait()
            finally:
                await process.kill()
            text = os.pread(descriptor, 1 << 20, 0)
        finally:
            os.close(descriptor)
    answers = dict(json.loads(line) for line in text.splitlines())
    assert status == 0, f"after {list(answers)[-1:]}: {process.stderr_tail()}"
    return answers


@contextmanager
def orders(attacks: list[Attack], facts: dict[str, Any]) -> Iterator[Path]:
    folder = Path(facts["directory"], "range")
    shutil.copytree(INSIDE, folder)
    folder.chmod(0o755)
    orders = {"facts": facts, "attacks": {attack.name: attack.code for attack in attacks}}
    (folder / "orders.json").write_text(json.dumps(orders))
    for file in folder.iterdir():
        file.chmod(0o755)
    yield folder
