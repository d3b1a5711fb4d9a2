"""Flags that several commands share, with one wording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swarmharness.app.session import SESSION


def _note_json(value: bool) -> bool:
    SESSION.is_json = SESSION.is_json or value
    return value


JsonFlag = Annotated[
    bool, typer.Option("--json", help="Answer for programs.", callback=_note_json, is_eager=True)
]
SkillsFlag = Annotated[
    list[Path] | None,
    typer.Option("--skills", help="A directory of skill folders to serve; may be repeated."),
]
ListenFlag = Annotated[
    str | None,
    typer.Option(
        "--listen",
        metavar="HOST:PORT",
        help="Where peers reach this node. Without it: loopback only, the port of the last start.",
        show_default=False,
    ),
]
PeerFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--peer",
        metavar="ADDRESS",
        help="A node to connect with, as its `swarm status` prints it; may be repeated.",
    ),
]
