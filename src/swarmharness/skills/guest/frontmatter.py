"""Front matter is the metadata block at the head of `SKILL.md`; the rest are instructions.

It is delimited by lines that hold three dashes and nothing else. YAML is read with every scalar
as text, because its guesses (`no` is False, `1.10` is 1.1, `2024-01-01` is a date) are wrong
for names and tags; whoever needs a number or a boolean converts the text. Aliases are refused:
nine lines of them can unfold to gigabytes.

Many files in the wild are not YAML at all (`description: Use this: it helps`). HarnessAPI reads
those line by line, so they are read line by line here, with a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

FRONT_MATTER_LIMIT = 64 * 1024  # bytes; real ones stay under 4 KiB
FENCE = "---"
_BLOCK_MARKS = frozenset({"|", ">", "|-", ">-", "|+", ">+"})
_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(?:\s+(.*))?")


@dataclass
class FrontMatter:
    """What a `SKILL.md` says: values are text, lists or tables of text."""

    values: dict[str, Any] = field(default_factory=dict)
    body: str = ""
    warnings: list[str] = field(default_factory=list)


class _TextLoader(yaml.BaseLoader):
    """Builds only text, lists and tables, and knows no aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def read_front_matter(text: str) -> FrontMatter:
    """Never raises: a strange head costs its own metadata, not the skill."""
    text = text.removeprefix("\ufeff")
    lines = text.splitlines(keepends=True)
    if not lines or lines[0].rstrip() != FENCE:
        return FrontMatter(body=text.strip())
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == FENCE:
            raw, body = "".join(lines[1:number]), "".join(lines[number + 1 :])
            break
    else:
        return FrontMatter(
            body=text.strip(), warnings=["SKILL.md: the front matter has no closing --- line"]
        )
    found = FrontMatter(body=body.strip())
    if len(raw.encode()) > FRONT_MATTER_LIMIT:
        found.warnings.append(f"SKILL.md: front matter over {FRONT_MATTER_LIMIT} bytes is not read")
        return found
    try:
        values = yaml.load(raw, Loader=_TextLoader)  # noqa: S506  builds text, lists, tables only
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())[:120]
        found.warnings.append(f"SKILL.md: front matter is not YAML ({reason}); read by lines")
        found.values = _by_lines(raw)
        return found
    if isinstance(values, dict):
        found.values = {key: value for key, value in values.items() if isinstance(key, str)}
    elif values:
        found.warnings.append("SKILL.md: front matter is not a table of keys; not read")
    return found


def _by_lines(raw: str) -> dict[str, Any]:
    """Unindented `key: value` lines; indented lines go on with the value above."""
    values: dict[str, Any] = {}
    key = None
    for line in raw.splitlines():
        match = _LINE.fullmatch(line.rstrip())
        if match:
            key = match[1]
            value = (match[2] or "").strip()
            values[key] = "" if value in _BLOCK_MARKS else _unquoted(value)
        elif key is not None and line[:1].isspace() and line.strip():
            values[key] = f"{values[key]} {line.strip()}".strip()
    return values


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
