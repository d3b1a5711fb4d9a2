"""The loader against the corpus, in a process of its own: handlers never run in the test's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CORPUS = Path(__file__).parent / "corpus"
Observe = Callable[..., dict]


@pytest.fixture
def observe() -> Observe:
    """What the sandbox would say of each folder, by name."""

    def run(*folders: Path, python: str = sys.executable) -> dict:
        done = subprocess.run(
            [python, "-BP", str(CORPUS / "ours.py"), *map(str, folders)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return {line["folder"]: line["found"] for line in lines}

    return run


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """A skill folder with the given handler; keyword names become files."""

    def build(handler: str, *, models: str | None = None, **files: str) -> Path:
        folder = tmp_path / "skills" / "made"
        folder.mkdir(parents=True, exist_ok=True)
        default = (CORPUS / "skills" / "edited" / "models.py").read_text()
        (folder / "models.py").write_text(models if models is not None else default)
        (folder / "handler.py").write_text(handler)
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".py").write_text(text)
        return folder

    return build


def test_negatives_say_what_and_where(observe):
    found = observe(*sorted(p for p in (CORPUS / "negatives").iterdir() if p.is_dir()))
    reasons = {name: entry["error"] for name, entry in found.items() if "error" in entry}
    assert reasons == {
        "bad_example": "examples/one.json: Expecting value: line 2 column 1 (char 10)",
        "broken_edit": "edit/handler.py:1: ValueError: half written",
        "import_exits": "handler.py:3: SystemExit: 3",
        "import_key_error": "handler.py:3: KeyError: 'A_VARIABLE_THAT_NOBODY_SETS'",
        "input_not_skill_input": "models.py: Input must be a subclass of SkillInput",
        "no_handle": "handler.py must define a function named handle",
        "no_output": "models.py must define the classes Input and Output",
        "output_not_a_class": "models.py: Output must be a subclass of SkillOutput",
        "parent_relative": (
            "handler.py:1: ImportError: attempted relative import beyond top-level package"
        ),
        **{name: reasons[name] for name in ("no_models", "shared")},
    }


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        ("def handle(:\n", "handler.py:1: SyntaxError: invalid syntax"),
        ("handle = 7\n", "handle is a int, not a function"),
        ("import nowhere\n", "handler.py:1: ModuleNotFoundError: No module named 'nowhere'"),
        ("from .models import Nothing\n", "handler.py:1: ImportError: cannot import name"),
        ("raise KeyError\n", "handler.py:1: KeyError"),
        ("raise ValueError('a\\n' * 900)\n", "handler.py:1: ValueError: a a a"),
        ("class Odd(BaseException): ...\nraise Odd\n", "handler.py:2: Odd"),
    ],
)
def test_a_handler_that_does_not_import(observe, make, handler, reason):
    found = observe(make(handler))["made"]["error"]
    assert found.startswith(reason)
    assert "\n" not in found
    assert len(found) <= 500


def test_a_relative_path_gives_the_same_reasons(observe, make):
    folder = make("raise KeyError\n")
    relative = Path(os.path.relpath(folder))
    assert observe(relative)["made"]["error"] == "handler.py:1: KeyError"


def test_a_syntax_error_in_a_module_names_that_module(observe, make):
    folder = make("from .rules import x\n", rules="x = = 1\n")
    assert observe(folder)["made"]["error"] == "rules.py:1: SyntaxError: invalid syntax"


def test_modules_know_their_package(observe, make):
    folder = make(
        """
from .models import Input, Output
from . import rules
for name, module in {"handler": __spec__, "rules": rules.__spec__}.items():
    assert module.parent == __package__ == "_corpus_skill", (name, module)
assert rules.Input is Input

def handle(input):
    return Output(text=__name__)
""",
        rules="from .models import Input\n",
        edit__handler="""
from .models import Output
assert __package__ == __spec__.parent == "_corpus_skill"
from .rules import Input

def handle(input: Input):
    return Output(text="edited")
""",
    )
    assert observe(folder)["made"]["is_sync"] is True


@pytest.mark.parametrize(
    ("handler", "kind", "is_sync"),
    [
        ("async def handle(input): return 1", "plain", False),
        ("async def handle(input): yield 1", "stream", False),
        ("def handle(input): return 1", "plain", True),
        ("def handle(input): yield 1", "stream", True),
        (
            "import functools\nasync def f(a, input): return 1\nhandle = functools.partial(f, 1)",
            "plain",
            False,
        ),
        (
            "import functools\nasync def f(a, input): yield 1\nhandle = functools.partial(f, 1)",
            "stream",
            False,
        ),
        (
            "class H:\n    async def __call__(self, input): return 1\nhandle = H()",
            "plain",
            False,
        ),
        (
            "class H:\n    async def __call__(self, input): yield 1\nhandle = H()",
            "stream",
            False,
        ),
        ("class H:\n    async def run(self, input): return 1\nhandle = H().run", "plain", False),
        (
            (
                "import functools\nasync def f(input): return 1\n"
                "@functools.wraps(f)\ndef handle(input): return f(input)"
            ),
            "plain",
            False,
        ),
        ("handle = len", "plain", True),
    ],
)
def test_kinds_of_handlers(observe, make, handler, kind, is_sync):
    found = observe(make(handler))["made"]
    assert (found["kind"], found["is_sync"]) == (kind, is_sync)


def test_a_model_without_json_schema_is_served_with_a_warning(observe, make):
    folder = make(
        "async def handle(input): ...",
        models="""
from typing import Callable
from harnessapi import SkillInput, SkillOutput

class Input(SkillInput):
    ready: bool = True

class Output(SkillOutput):
    call: Callable[[], int]
    limit: float = float("inf")
""",
    )
    found = observe(folder)["made"]
    assert found["output_schema"] == {"type": "object", "title": "Output"}
    assert "Output has no JSON schema" in found["warnings"][0]


def test_a_module_that_rebinds_the_docstring_changes_nothing(observe, make):
    folder = make('"""Written."""\n__doc__ = "rebound"\nasync def handle(input): ...\n')
    assert observe(folder)["made"]["docstring"] == "Written."


def test_too_many_examples_are_left_out_with_a_warning(observe, make):
    folder = make("async def handle(input): ...")
    (folder / "examples").mkdir()
    for number in range(65):
        (folder / "examples" / f"{number:03}.json").write_text(str(number))
    found = observe(folder)["made"]
    assert found["examples"] == list(range(64))
    assert "064.json" in found["warnings"][0]


def test_a_description_over_the_frame_limit_is_refused(observe, make):
    folder = make("async def handle(input): ...")
    (folder / "defaults").mkdir()
    (folder / "defaults" / "input.json").write_text('"' + "x" * 1024 * 1024 + '"')
    assert "more than 1048576" in observe(folder)["made"]["error"]


def test_instructions_are_cut_with_a_warning(observe, make):
    folder = make("async def handle(input): ...")
    (folder / "SKILL.md").write_text("x" * (256 * 1024 + 1))
    found = observe(folder)["made"]
    assert len(found["instructions"]) == 256 * 1024
    assert "only the first" in found["warnings"][0]


def test_infinite_numbers_become_none(observe, make):
    folder = make("async def handle(input): ...")
    (folder / "examples").mkdir()
    (folder / "examples" / "a.json").write_text('{"a": [Infinity, NaN, 1.5]}')
    assert observe(folder)["made"]["examples"] == [{"a": [None, None, 1.5]}]
