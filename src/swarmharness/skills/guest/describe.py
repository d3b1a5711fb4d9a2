"""A description is what a skill says of itself once imported: schemas, kind and texts, as JSON.

It is made inside the sandbox, after foreign code has run, so the host believes nothing of it
that it has not checked. The metadata of `skill.toml` is not here: the host reads that file
itself and merges.
"""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from .frontmatter import FrontMatter, read_front_matter
from .loader import LoadedSkill, SkillLoadError

DESCRIPTION_VERSION = 1
FRAME_LIMIT = 1024 * 1024  # bytes; the host refuses more
TEXT_LIMIT = 256 * 1024  # bytes of SKILL.md; a book does not belong into a prompt
EXAMPLES_LIMIT = 256 * 1024  # bytes of all examples together; they are shown to people
MAX_EXAMPLES = 64  # files; more is a data set
CARRIED_KEYS = (
    "name",
    "description",
    "is_mcp",
    "tags",
    "timeout_secs",
    "license",
    "compatibility",
    "allowed-tools",
    "argument-hint",
)


def describe(loaded: LoadedSkill, folder: Path) -> dict[str, Any]:
    """Everything the host cannot read without running foreign code."""
    warnings: list[str] = []
    matter = _front_matter(folder)
    warnings += matter.warnings
    return {
        "version": DESCRIPTION_VERSION,
        "kind": loaded.kind,
        "is_sync": loaded.is_sync,
        "front_matter": {k: matter.values[k] for k in CARRIED_KEYS if k in matter.values},
        "docstring": _docstring(folder / "handler.py"),
        "instructions": matter.body or None,
        "input_schema": _schema(loaded.input_model, "validation", warnings),
        "output_schema": _schema(loaded.output_model, "serialization", warnings),
        "examples": _examples(folder, warnings),
        "defaults": _json_file(folder / "defaults" / "input.json", folder),
        "warnings": warnings,
    }


def describe_json(loaded: LoadedSkill, folder: Path) -> bytes:
    """The bytes that leave the sandbox."""
    encoded = json.dumps(
        _finite(describe(loaded, folder)), ensure_ascii=False, separators=(",", ":")
    ).encode("utf-8", "replace")
    if len(encoded) > FRAME_LIMIT:
        raise SkillLoadError(
            f"the description takes {len(encoded)} bytes, more than {FRAME_LIMIT}: "
            "shorten schemas, examples or SKILL.md"
        )
    return encoded


def _front_matter(folder: Path) -> FrontMatter:
    path = folder / "SKILL.md"
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return FrontMatter()
    except OSError as error:
        return FrontMatter(warnings=[f"SKILL.md cannot be read: {error.strerror}"])
    matter = read_front_matter(raw[:TEXT_LIMIT].decode("utf-8", "replace"))
    if len(raw) > TEXT_LIMIT:
        matter.warnings.append(f"SKILL.md: only the first {TEXT_LIMIT} bytes are read")
    return matter


def _docstring(handler: Path) -> str | None:
    """Read from the source, so that code cannot rewrite it and a base handler keeps it."""
    try:
        return ast.get_docstring(ast.parse(handler.read_bytes()))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _schema(model: type[BaseModel], mode: Any, warnings: list[str]) -> dict[str, Any]:
    """A model without a JSON schema can still validate, so it can still be served."""
    try:
        return model.model_json_schema(mode=mode, by_alias=mode == "validation")
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        reason = str(error).splitlines()[0][:200]
        warnings.append(f"models.py: {model.__name__} has no JSON schema: {reason}")
        return {"type": "object", "title": model.__name__}


def _examples(folder: Path, warnings: list[str]) -> list[Any]:
    found: list[Any] = []
    total = 0
    for path in sorted((folder / "examples").glob("*.json")):
        total += path.stat().st_size
        if len(found) == MAX_EXAMPLES or total > EXAMPLES_LIMIT:
            warnings.append(f"examples: {path.name} and later ones are left out: too much")
            break
        found.append(_json_file(path, folder))
    return found


def _json_file(path: Path, folder: Path) -> Any:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SkillLoadError(f"{path.relative_to(folder)}: {error}") from error


def _finite(value: Any) -> Any:
    """JSON has no infinities; a default that is one is shown as none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
