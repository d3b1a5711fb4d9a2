"""Attacks and engine again as an ordinary user: a node that is not root takes another way in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from skills.attacks.attack_table import attacks
from swarmharness.skills.sandbox import mounts, root_launcher
from swarmharness.skills.sandbox.runnable import Isolation

ORDINARY_UID = 64990  # no slot, and nobody's
CHECKOUT = Path(__file__).parents[3]
NEUTRAL = "/mnt"
NEEDS_ROOT = {
    "test_the_suite_passes_as_an_ordinary_user",
    "test_a_source_that_the_dropped_user_cannot_read_is_said",
}
RERUN = (
    "attacks",
    *("test_confinement.py", "test_engine.py", "test_executor_contract.py", "test_probe.py"),
)

LONGEST_S = 900  # ten times what it takes; a hang must end as a failure


@pytest.mark.slow
def test_the_suite_passes_as_an_ordinary_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("AS ROOT NOT COVERED: this run is an ordinary user's; run it as root as well")
    home = Path(tempfile.mkdtemp(prefix="swarm-ordinary-", dir="/var/tmp"))
    try:
        os.chown(home, ORDINARY_UID, ORDINARY_UID)
        result = _run_as_ordinary_user(home)
        assert result.returncode == 0, result.stdout + result.stderr
        cases = ET.parse(home / "report.xml").findall(".//testcase")
    finally:
        shutil.rmtree(home)
    modules = Counter(str(case.get("classname")).rpartition(".")[2] for case in cases)
    stages = [(tier, mode) for tier in ("1", "2") for mode in Isolation]
    assert modules["test_attacks"] == sum(len(attacks(tier, mode)) for tier, mode in stages)
    skipped = [case.get("name") for case in cases if case.find("skipped") is not None]
    assert set(skipped) == NEEDS_ROOT


def _run_as_ordinary_user(home: Path) -> subprocess.CompletedProcess[str]:
    """The product's own launcher drops root and shows what lies in private directories."""
    sources = {mount.target: mount.source for mount in mounts.base_mounts()}
    checkout = f"{NEUTRAL}/checkout"
    binds = [[str(CHECKOUT), checkout]]
    python = [mounts.python_argv()[0]]
    if mounts.PYTHON_TARGET in sources:
        binds.append([sources[mounts.PYTHON_TARGET], NEUTRAL + mounts.PYTHON_TARGET])
        python = [NEUTRAL + python[0]]
    binds += [[sources[target], NEUTRAL + target] for target in mounts.site_targets()]
    path = [f"{checkout}/src", *(NEUTRAL + target for target in mounts.site_targets())]
    relocated = mounts.python_environment().items()
    orders = {
        "parent": os.getpid(),
        "uid": ORDINARY_UID,
        "neutral": NEUTRAL,
        "binds": binds,
        "readable": [target for _, target in binds],
        "argv": [
            *(*python, "-m", "pytest", "-p", "no:cacheprovider"),
            *("-c", f"{checkout}/pyproject.toml", "--rootdir", checkout),
            *("--junitxml", str(home / "report.xml"), "--basetemp", str(home / "tests")),
            *(f"{checkout}/tests/skills/{name}" for name in RERUN),
        ],
        "environment": {
            **{name: NEUTRAL + value for name, value in relocated},
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "TMPDIR": str(home),
            "PYTHONPATH": ":".join(path),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    }
    with tempfile.TemporaryFile() as stream:
        stream.write(json.dumps(orders).encode())
        stream.seek(0)
        launcher = [sys.executable, "-I", "-S", "-B", root_launcher.__file__]
        return subprocess.run(
            [*launcher, str(stream.fileno())],
            cwd="/",
            env={},
            pass_fds=[stream.fileno()],
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
        )
