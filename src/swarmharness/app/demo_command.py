"""The command that shows it all: demo."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from swarmharness.app.ending import until_signalled
from swarmharness.app.flags import JsonFlag
from swarmharness.app.session import SESSION, say

TASKS = 240


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("demo")(demo)


def demo(
    tasks: Annotated[int, typer.Option(help="How many tasks to send.", min=20, max=5000)] = TASKS,
    json: JsonFlag = False,
) -> None:
    """Start five nodes on this machine, let them work, kill one, and lose nothing."""
    from swarmharness.app.demo.run import run_demo

    report = asyncio.run(until_signalled(run_demo(tasks)))
    if SESSION.is_json:
        SESSION.data("demo", report)
        return
    say(
        f"{report.tasks_completed} of {report.tasks_submitted} tasks completed in"
        f" {report.seconds:.0f} s on {report.nodes} nodes; node {report.killed_node} was killed at"
        f" work, {report.failovers} tasks moved to other nodes, none was lost."
    )
