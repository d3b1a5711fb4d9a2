"""What `--help` says, of `swarm` and of each of its commands."""

from __future__ import annotations

import inspect

from typer.testing import CliRunner

from documents import markdown
from swarmharness.app import main

WIDTH = 80  # columns; what a terminal has that nobody made wider


def text() -> str:
    names = [command.name for command in main.app.registered_commands]
    exit_statuses = (inspect.getdoc(main) or "").split("\n\n")[1]
    return markdown.document(
        "Commands",
        "What `swarm --help` and `swarm COMMAND --help` print.",
        " ".join(exit_statuses.split()),
        _section(),
        *(_section(name) for name in names if name),
    )


def _section(*names: str) -> str:
    answer = CliRunner().invoke(
        main.app, [*names, "--help"], prog_name="swarm", terminal_width=WIDTH, color=False
    )
    assert answer.exit_code == 0, answer.output
    lines = "\n".join(line.rstrip() for line in answer.stdout.strip().splitlines())
    return f"## `{' '.join(['swarm', *names])}`\n\n```text\n{lines}\n```"
