"""The tree itself: limits explained, tests that wait for events, nothing private tracked."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "swarmharness"
TESTS = ROOT / "tests"

FOREVER_S = 60
"""A sleep this long stands for “never”: whoever does it is cancelled, nobody waits for its end."""
MAY_SLEEP = {
    "contracts/test_transport_tls.py": "lets the kernel's sockets move; the memory twin needs none",
    "skills/test_call_session.py": "time itself is what passes there, or a process is asked for",
    "skills/test_environments.py": "asks the disk whether a foreign process got there; no event",
    "skills/test_confinement.py": "asks /proc whether a process is gone; the kernel has no event",
    "skills/test_library.py": "asks a real sandbox's state; its ends are not ours to wait for",
}
"""Test files that look again after a pause, and why nothing there could be waited for."""

FIXED_BY_A_FORMAT = {
    *("NODE_ID_BYTES", "SEED_BYTES", "SIGNATURE_BYTES", "NONCE_BYTES", "TOKEN_BYTES"),
    *("HEADER_BYTES", "WORD_BYTES", "TASK_ID_BYTES", "MAX_PORT", "PORT_MAX"),
    *("LONG_FORM_LENGTH", "SHORT_FORM_LENGTH", "SECOND_US", "MILLISECOND_US"),
}
"""Sizes that nobody chose: a key, a header, a port or a unit has them."""


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file()]


def test_names_of_test_files_are_unique():
    names = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


# In pieces, so that this file itself does not carry them.
PLACES = ["/ro" + "ot/", "/home/" + "runner", "pythonho" + "sted", "artifact" + "ory"]
PATTERNS = [r"(?<![\w.*-])/wo" + r"rk/", r"\bpypi" + r"\.", r"/Us" + r"ers/\w"]
OWN = [rf"(?<!\w){re.escape(str(place))}/" for place in (ROOT, Path.home()) if place.parts[2:]]
PRIVATE = re.compile("|".join([*PLACES, *PATTERNS, *OWN]).encode())
"""Where the files were written, and where their packages came from: nobody else's concern."""


@pytest.mark.parametrize("planted", ["/home/run~ner/x", "/ro~ot/.cache", "py~pi.org", " /wo~rk/a"])
def test_planted_address_is_noticed(planted):
    assert PRIVATE.search(planted.replace("~", "").encode())


def test_tracked_files_carry_no_address_of_a_registry_or_a_machine():
    found = {}
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content and (match := PRIVATE.search(content)):
            found[str(path.relative_to(ROOT))] = match.group().decode()
    assert found == {}


def sleeps(source: str) -> list[int]:
    """Lines that sleep real time for a while, hoping that something has happened then."""
    tree = ast.parse(source)
    virtual = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any("virtual" in ast.unparse(decorator) for decorator in node.decorator_list)
        for inner in ast.walk(node)
    }
    if "pytestmark = pytest.mark.virtual" in source:
        return []
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or node in virtual:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        if name != "sleep" or not node.args:
            continue
        seconds = node.args[0]
        is_turn_or_forever = isinstance(seconds, ast.Constant) and (
            seconds.value == 0 or seconds.value >= FOREVER_S
        )
        if not is_turn_or_forever:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    ("planted", "is_noticed"),
    [
        ("time.sleep(0.1)", True),
        ("sleep(pause)", True),
        ("async def f(): await asyncio.sleep(1)", True),
        ("await_(asyncio.sleep(0))", False),
        ("asyncio.sleep(3600)", False),
        ("@pytest.mark.virtual\nasync def f(): await asyncio.sleep(1)", False),
    ],
)
def test_planted_sleep_is_noticed(planted, is_noticed):
    assert bool(sleeps(planted)) is is_noticed


def test_tests_do_not_wait_by_sleeping():
    asleep = {}
    for path in TESTS.rglob("*.py"):
        name = path.relative_to(TESTS).as_posix()
        # The simulator's own tests sleep on its virtual loop.
        if not name.startswith("simulator/") and (lines := sleeps(path.read_text())):
            asleep[name] = lines
    assert {name: lines for name, lines in asleep.items() if name not in MAY_SLEEP} == {}
    assert sorted(MAY_SLEEP.keys() - asleep.keys()) == [], "no longer needed"


def test_every_limit_has_a_reason(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    limits = importlib.import_module("documents.limits")
    unexplained = [
        f"{path.relative_to(SOURCE)}: {number.owner or ''} {number.name} = {number.value}"
        for path in sorted(SOURCE.rglob("*.py"))
        for number in limits.numbers(path)
        if not number.reason
        and number.name not in FIXED_BY_A_FORMAT
        and not number.name.startswith("_")
        and any(digit.isdigit() for digit in number.value)  # else it follows from another
        and (number.owner or limits.SAYS_HOW_MUCH.search(number.name))
    ]
    assert unexplained == []


def test_nothing_generated_is_tracked():
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert not names & {".venv", ".venvs", "build", "dist", ".hypothesis"}
    assert not [path for path in tracked() if path.suffix in {".pyc", ".so", ".log"}]


def test_scripts_are_executable():
    scripts = [ROOT / ".ci" / "run", *(ROOT / "tools").glob("*.sh")]
    assert [path.name for path in scripts if not path.stat().st_mode & 0o100] == []
