"""The package works without a checkout: all that it reads at run time is in the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "swarmharness"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [path] = target.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def checked_in(folder: str) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", folder], cwd=ROOT, capture_output=True, check=True
    )
    return {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).exists()}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_the_examples(wheel):
    names = set(wheel.namelist())
    sources = {name.removeprefix("src/") for name in checked_in("src")}
    examples = {f"{PACKAGE}/{name}" for name in checked_in("examples")}
    assert sources - names == set()
    assert examples - names == set()
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/skills/guest/bootstrap.py"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


@pytest.mark.slow
def test_the_unpacked_wheel_runs_without_the_checkout(wheel, tmp_path):
    wheel.extractall(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from swarmharness.app.demo import workload\n"
        "import swarmharness.app.main, swarmharness.skills.sandbox.executor\n"
        "print(swarmharness.__file__)\n"
        "print(workload.examples_directory())\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(tmp_path)) for line in done.stdout.splitlines()), done.stdout
