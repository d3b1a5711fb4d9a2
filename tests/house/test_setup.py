"""Set-up says in one line what to type where it cannot go on, and takes nothing from the machine.

The script runs in a copy of the checkout's few files, with a path on which only what a test puts
there can be found: no package manager, no bubblewrap, a stand-in for Python.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS_IT_NEEDS = ("bash", "sh", "env", "dirname", "id", "uname", "rm", "touch", "mkdir", "cat")

PYTHON = """#!/bin/sh
case "$*" in
  *"import venv"*) exit {venv_status} ;;
  *sys.exit*) exit {age_status} ;;
  *python3.*) echo python3.11-venv ;;
  --version) echo Python 3.11.0 ;;
  "-m venv "*) mkdir -p "$3/bin"; cat > "$3/bin/pip"; chmod +x "$3/bin/pip" ;;
esac
"""
PIP = '#!/bin/sh\necho "$@" "[${PYTHONPATH-unset} ${PIP_TARGET-unset} $PIP_USER]" >> pip.log\n'


@pytest.fixture
def machine(tmp_path):
    """A bare machine: `run(venv=…, old=…)` gives what the script said and how it ended."""
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in (*TOOLS_IT_NEEDS, "chmod"):
        (bare / tool).symlink_to(shutil.which(tool))
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "setup.sh", tmp_path / "tools")

    def run(*, has_venv=True, is_old=False):
        python = bare / "python3"
        python.write_text(PYTHON.format(venv_status=int(not has_venv), age_status=int(is_old)))
        python.chmod(0o755)
        environment = {"PATH": str(bare), "PYTHONPATH": "/nonsense", "PIP_TARGET": "/elsewhere"}
        return subprocess.run(
            [tmp_path / "tools" / "setup.sh", ".venv", "a.lock", "b.lock"],
            env=environment,
            input=PIP,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )

    return run


def test_without_a_new_enough_python(machine, tmp_path):
    done = machine(is_old=True)
    assert done.returncode == 1
    assert "Type: sudo apt-get install python3 python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_without_venv(machine, tmp_path):
    done = machine(has_venv=False)
    assert done.returncode == 1
    assert "Type: sudo apt-get install python3.11-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_without_bubblewrap_it_goes_on(machine, tmp_path):
    done = machine()
    assert done.returncode == 0, done.stderr
    assert "Type: sudo apt-get install bubblewrap" in done.stderr
    assert (tmp_path / ".venv" / ".ready").exists()


def test_packages_are_locked_wheels_and_nothing_of_the_machine_is_used(machine, tmp_path):
    machine()
    packages, ours = (tmp_path / "pip.log").read_text().splitlines()
    assert "--require-hashes -r a.lock -r b.lock" in packages
    assert "--only-binary :all:" in packages
    assert "--no-deps --no-build-isolation --no-index --editable ." in ours
    assert packages.endswith("[unset unset 0]")


def test_a_failed_set_up_is_not_ready(machine, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PIP", "#!/bin/sh\nexit 3\n")
    assert machine().returncode == 3
    assert not (tmp_path / ".venv" / ".ready").exists()


@pytest.mark.parametrize("name", ["runtime.lock", "dev.lock", "bench.lock"])
def test_locks_hold_names_versions_and_hashes_only(name):
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        is_package = line[:1].isalnum() and "==" in line
        assert is_package or line.startswith(("#", "    --hash=sha256:")), line
        assert "://" not in line
        assert "@" not in line


@pytest.fixture
def run_tests():
    spec = importlib.util.spec_from_file_location("run_tests", ROOT / "tools" / "run_tests.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_python_kept_by_pyenv_is_found_and_a_broken_one_is_not(run_tests, tmp_path, monkeypatch):
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    for version, program in ((f"{own}.1", "#!/bin/sh\nexit 1\n"), (f"{own}.2", None)):
        place = tmp_path / "versions" / version / "bin"
        place.mkdir(parents=True)
        if program is None:
            (place / f"python{own}").symlink_to(sys.executable)
        else:
            (place / f"python{own}").write_text(program)
            (place / f"python{own}").chmod(0o755)
    monkeypatch.setattr(run_tests.shutil, "which", lambda _: None)
    assert run_tests.find_python(own) == str(
        tmp_path / "versions" / f"{own}.2" / "bin" / f"python{own}"
    )
    assert run_tests.find_python("3.99") is None


def test_each_version_is_run_or_named_as_missing(run_tests, monkeypatch, capsys):
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    present, broken, missing = [v for v in run_tests.SUPPORTED if v != own]
    pythons = {present: "/python", broken: "/broken", missing: None}

    def environment_for(version, _):
        if version == broken:
            raise run_tests.SetupFailed("no wheel for this one")
        return Path(f"/environment/{version}")

    ran = []
    monkeypatch.setattr(run_tests, "find_python", pythons.get)
    monkeypatch.setattr(run_tests, "environment_for", environment_for)
    monkeypatch.setattr(run_tests, "run_pytest", lambda python, _: ran.append(python) or 0)
    assert run_tests.main() == 1
    assert ran == [sys.executable, Path(f"/environment/{present}")]
    last_words = capsys.readouterr().out.splitlines()[-4:]
    assert set(last_words) == {
        f"Python {own}: passed",
        f"Python {present}: passed",
        f"Python {broken}: FAILED (no environment)",
        f"Python {missing}: not on this machine: NOT TESTED",
    }


def test_a_failure_on_one_version_is_the_answer(run_tests, monkeypatch, capsys):
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    monkeypatch.setattr(run_tests, "find_python", lambda _: None)
    monkeypatch.setattr(run_tests, "run_pytest", lambda *_: 2)
    assert run_tests.main() == 1
    assert f"Python {own}: FAILED (status 2)" in capsys.readouterr().out
    monkeypatch.setattr(run_tests, "run_pytest", lambda *_: 0)
    assert run_tests.main() == 0
