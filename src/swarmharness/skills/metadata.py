"""Metadata is what a skill is called and how it is presented, merged from three sources.

Per key: `[skill]` in `skill.toml`, else the front matter of `SKILL.md`, else the default. A key
that is present but empty in `skill.toml` hides the front matter, as in HarnessAPI. Only the
description has a third source, the docstring of `handler.py`, which also stands in for an
empty value.

Front matter arrives as text, lists and tables of text; numbers and booleans are read here.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, final

import msgspec

from swarmharness.skills.errors import BadSkillFile

DEFAULT_TIMEOUT_MS = 30_000  # HarnessAPI's 30.0 s
MAX_NAME_BYTES = 128  # it travels in every offer; real names stay under 40
MAX_TEXT = 16 * 1024  # characters of a description; agentskills.io allows 1,024
MAX_LIST = 64  # tags or tools; nobody reads more
MAX_WORD = 200  # characters of one tag or tool
MAX_TIMEOUT_S = 10**9  # seconds; keeps the arithmetic in integers, the ceiling comes later

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})
_LIST_SEPARATOR = re.compile(r"[\s,]+(?![^(]*\))")
_MISSING = object()


@final
class SkillMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """As HarnessAPI's `SkillMeta`; the last four are carried and never obeyed."""

    name: str
    description: str = ""
    is_mcp: bool = True
    tags: tuple[str, ...] = ()
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    license: str | None = None
    compatibility: str | None = None
    allowed_tools: tuple[str, ...] = ()
    argument_hint: str | None = None


def merge_metadata(
    table: Mapping[str, Any],
    front_matter: Mapping[str, Any],
    *,
    docstring: str | None,
    folder_name: str,
) -> SkillMetadata:
    """`BadSkillFile` names the key whose value cannot be meant."""

    def find(key: str, default: object = None) -> Any:
        value = table.get(key, _MISSING)
        if value is _MISSING:
            value = front_matter.get(key, _MISSING)
            if isinstance(value, str):
                value = value.strip()
            if value in ("", "~"):  # YAML's ways to write nothing
                value = _MISSING
        return default if value is _MISSING else value

    return SkillMetadata(
        name=checked_name(find("name", folder_name)),
        description=(_text("description", find("description")) or docstring or "")[:MAX_TEXT],
        is_mcp=_boolean("is_mcp", find("is_mcp", default=True)),
        tags=_words("tags", find("tags", ()), separator=","),
        timeout_ms=_timeout_ms(find("timeout_secs")),
        license=_text("license", find("license")),
        compatibility=_text("compatibility", find("compatibility")),
        allowed_tools=_words("allowed-tools", find("allowed-tools", ()), separator=None),
        argument_hint=_text("argument-hint", find("argument-hint")),
    )


def checked_name(name: object) -> str:
    """Any text of 1 to 128 bytes; control and format characters could hide what is called."""
    if not isinstance(name, str):
        raise BadSkillFile(f"name must be text, not {_kind(name)}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise BadSkillFile("name is not valid Unicode") from None
    if not 0 < size <= MAX_NAME_BYTES:
        raise BadSkillFile(f"name has {size} bytes; 1 to {MAX_NAME_BYTES} are possible")
    if any(unicodedata.category(letter) in {"Cc", "Cf", "Zl", "Zp"} for letter in name):
        raise BadSkillFile(f"name {name!a} holds control characters")
    return name


def _text(key: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    raise BadSkillFile(f"{key} must be text, not {_kind(value)}")


def _boolean(key: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise BadSkillFile(f"{key} must be true or false, not {_shown(value)}")


def _timeout_ms(value: object) -> int:
    if value is None:
        return DEFAULT_TIMEOUT_MS
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError  # noqa: TRY004  one sentence for every wrong value
        seconds = float(value)
    except (ValueError, OverflowError):
        raise BadSkillFile(f"timeout_secs must be a number, not {_shown(value)}") from None
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_TIMEOUT_S):
        raise BadSkillFile(f"timeout_secs must be above 0, not {_shown(value)}")
    return max(1, round(seconds * 1000))


def _words(key: str, value: object, *, separator: str | None) -> tuple[str, ...]:
    """A list, or its one-line form: tags by commas, tools by spaces or commas."""
    if isinstance(value, str):
        parts = value.split(separator) if separator else _LIST_SEPARATOR.split(value)
        value = [part.strip() for part in parts if part.strip()]
    if not isinstance(value, list | tuple):
        raise BadSkillFile(f"{key} must be a list of words, not {_kind(value)}")
    if len(value) > MAX_LIST:
        raise BadSkillFile(f"{key} has {len(value)} entries; at most {MAX_LIST} are possible")
    for word in value:
        if not (isinstance(word, str) and len(word) <= MAX_WORD):
            raise BadSkillFile(f"{key}: {_shown(word)} is not a word of at most {MAX_WORD} letters")
    return tuple(value)


def _kind(value: object) -> str:
    match value:
        case dict():
            return "a table"
        case list() | tuple():
            return "a list"
        case _:
            return _shown(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_NAME_BYTES else f"{text[:60]}…"
