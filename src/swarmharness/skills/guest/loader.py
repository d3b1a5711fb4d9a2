"""The loader imports one skill folder the way HarnessAPI does, inside the sandbox.

Theory of operation. A skill's modules live in a synthetic package whose path is the folder, so
`from .models import Input` and `from .rules import x` work without an `__init__.py`, and the
folder's own `__init__.py` is never run. Every module's `__package__` equals its
`__spec__.parent`; the package name has no dot, so `from ..shared import x` has nowhere to go
and stays an error, as it is in HarnessAPI. Parent imports work in both forms that exist in
practice: the handler puts its parent directory on `sys.path` itself, or imports
`<skills directory>.shared`, for which the project root stands last on `sys.path`.

One process loads one skill, once. Import-time code is the skill's own: nothing after
`load_skill` may be believed.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .imports import names_beyond_shim

REASON_LIMIT = 500  # characters; one line of `swarm skills`
SHIM = Path(__file__).parent / "shim"


class SkillLoadError(Exception):
    """The folder cannot be served; `reason` is one line that says why and where."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        line = " ".join(reason.split())
        self.reason = line if len(line) <= REASON_LIMIT else line[: REASON_LIMIT - 1] + "…"


@dataclass(frozen=True)
class LoadedSkill:
    """A skill ready to be called."""

    handle: Callable[[Any], Any]
    input_model: type[BaseModel]
    output_model: type[BaseModel]
    kind: str
    """`plain` or `stream`, as far as the function shows; what it returns has the last word."""
    is_sync: bool
    """Neither a coroutine function nor an asynchronous generator: it needs a thread."""
    package: str


def load_skill(folder: Path, package: str) -> LoadedSkill:
    """Raises only `SkillLoadError`; an import that calls `sys.exit` is one, too."""
    assert "." not in package, "a dot would open the way to the parent package"
    folder = folder.absolute()
    models_base = _open_import_path(folder)
    _make_package(folder, package)
    models = _import_file(folder, folder / "models.py", f"{package}.models")
    handler = _import_file(folder, folder / "handler.py", f"{package}.handler")
    input_model = _model(models, "Input", models_base.SkillInput)
    output_model = _model(models, "Output", models_base.SkillOutput)
    handle = getattr(handler, "handle", None)
    if handle is None:
        raise SkillLoadError("handler.py must define a function named handle")
    edited = folder / "edit" / "handler.py"
    if edited.exists():
        # The dash keeps this name out of reach of any import statement of the folder.
        edit = _import_file(folder, edited, f"{package}.edit-handler")
        handle = getattr(edit, "handle", None) or handle
    if not callable(handle):
        raise SkillLoadError(f"handle is a {type(handle).__name__}, not a function")
    kind, is_sync = _classify(handle)
    return LoadedSkill(handle, input_model, output_model, kind, is_sync, package)


def _open_import_path(folder: Path) -> types.ModuleType:
    """HarnessAPI's place is taken by the shim or by the real package, never by both."""
    root = str(folder.parent.parent)
    if root not in sys.path:
        sys.path.append(root)
    beyond = names_beyond_shim(folder)
    if not beyond:
        sys.path.insert(0, str(SHIM))
    elif importlib.util.find_spec("harnessapi") is None:
        raise SkillLoadError(
            f"imports {', '.join(beyond)}, which only the real HarnessAPI package has: "
            'ask for it with requirements = ["harnessapi"] in the [swarm] table of skill.toml'
        )
    return importlib.import_module("harnessapi.models")


def _make_package(folder: Path, package: str) -> None:
    spec = importlib.machinery.ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[package] = importlib.util.module_from_spec(spec)


def _import_file(folder: Path, path: Path, name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SkillLoadError(f"{path.relative_to(folder)} is not a Python source file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        raise SkillLoadError(_import_reason(folder, path, error)) from error
    return module


def _import_reason(folder: Path, path: Path, error: BaseException) -> str:
    """The innermost line of the skill's own code is where its author wants to look."""
    place = str(path.relative_to(folder))
    if isinstance(error, SyntaxError) and error.filename:
        found = Path(error.filename)
        shown = found.relative_to(folder) if found.is_relative_to(folder) else Path(found.name)
        return f"{shown}:{error.lineno}: {type(error).__name__}: {error.msg}"
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).is_relative_to(folder):
            place = f"{Path(frame.filename).relative_to(folder)}:{frame.lineno}"
    text = str(error)
    return f"{place}: {type(error).__name__}{': ' + text if text else ''}"


def _model(models: types.ModuleType, name: str, base: Any) -> type[BaseModel]:
    found = getattr(models, name, None)
    if found is None:
        raise SkillLoadError("models.py must define the classes Input and Output")
    if not (isinstance(found, type) and issubclass(found, base)):
        raise SkillLoadError(f"models.py: {name} must be a subclass of {base.__name__}")
    return found


def _classify(handle: Callable[[Any], Any]) -> tuple[str, bool]:
    """Decorators are looked through, because many hide a generator behind a plain wrapper."""
    inner = inspect.unwrap(handle)
    if not inspect.isroutine(inner) and not hasattr(inner, "func"):
        inner = type(inner).__call__
    if inspect.isasyncgenfunction(inner):
        return "stream", False
    if inspect.isgeneratorfunction(inner):
        return "stream", True
    is_async = inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(handle)
    return "plain", not is_async
