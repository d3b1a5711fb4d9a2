"""A command session is what every command shares: which home, and whether a program is reading.

People read text: results on stdout, everything else on stderr. Programs read `--json`: one envelope
`{schema, ok, data}` or `{schema, ok, error}` on stdout, one per line where a command streams.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, final

import msgspec

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.printable import printable, printable_line
from swarmharness.node.home import Home, default_home


@final
class Session:
    """Of one run of the `swarm` command."""

    def __init__(self) -> None:
        self.home_path: Path | None = None
        self.is_json = False

    @property
    def home(self) -> Home:
        return Home(self.home_path or default_home())

    def data(self, schema: str, data: Any) -> None:
        """A result, for programs."""
        self._write({"schema": f"swarm.{schema}/1", "ok": True, "data": data})

    def failure(self, error: SwarmError) -> None:
        """A refusal, for whoever is reading."""
        if self.is_json:
            fields = {
                "code": error.code,
                "blame": error.blame.value,
                "sentence": error.sentence,
                "hint": error.hint,
                "data": error.data,
            }
            self._write({"schema": "swarm.error/1", "ok": False, "error": fields})
            return
        say(f"✗ {printable_line(error.sentence)}")
        for line in _detail_lines(error):
            say(f"  {printable_line(line)}")
        if error.hint:
            say(f"  → {printable_line(error.hint)}")
        say(f"  [{printable_line(error.code)}]")

    def _write(self, value: dict[str, Any]) -> None:
        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
        sys.stdout.flush()


SESSION = Session()
"""Filled from the command line before a command runs; one process runs one command."""


def say(text: str = "") -> None:
    """For people's eyes only: never on stdout, which programs may read."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def show(text: str) -> None:
    """A result on stdout: as it is for a file or a pipe, harmless for a terminal."""
    sys.stdout.write((printable(text) if sys.stdout.isatty() else text) + "\n")
    sys.stdout.flush()


def show_line(text: str) -> None:
    """One line of a table made of other people's names and reasons."""
    sys.stdout.write(printable_line(text) + "\n")


def _detail_lines(error: SwarmError) -> list[str]:
    """Of what is known of `data`; the far side may be of another version, and send anything."""
    lines = [
        f"node {attempt['node']}: {attempt['sentence']}"
        for attempt in _tables(error.data.get("attempts"))
        if {"node", "sentence"} <= attempt.keys()
    ]
    for item in _tables(error.data.get("detail")):
        where = item.get("loc")
        place = ".".join(str(part) for part in where) if isinstance(where, list | tuple) else ""
        lines.append(f"{place or 'input'}: {item.get('msg', '')}")
    return lines


def _tables(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
