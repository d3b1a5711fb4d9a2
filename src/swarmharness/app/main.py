"""The `swarm` command: reads the command line, runs one command, answers with an exit status.

Exit statuses: 0 done, 1 the operation failed, 2 usage, 3 no node runs, 4 refused, 5 degraded,
6 deadline, 7 not authorised, 130 interrupted, 143 ended by a signal.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

import swarmharness.http.errors  # noqa: F401  what the control API refuses keeps its exit status
from swarmharness import __version__
from swarmharness.app import demo_command, node_commands, task_commands
from swarmharness.app.errors import Interrupted, UsageRefused
from swarmharness.app.session import SESSION, say
from swarmharness.kernel.errors import ExitCode, InternalError, SwarmError

app = typer.Typer(
    name="swarm",
    help="Your machines and other people's machines become one swarm.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def options(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(help="The node's directory (also SWARM_HOME).", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Answer for programs.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Run skills on your own machines and on other people's, and let them use yours."""
    SESSION.home_path = home
    if context.invoked_subcommand is None and not version:
        say(context.get_help())
        raise typer.Exit(ExitCode.USAGE)
    SESSION.is_json = SESSION.is_json or json
    if version:
        sys.stdout.write(f"swarmharness {__version__}\n")
        raise typer.Exit


for module in (node_commands, task_commands, demo_command):
    module.register(app)


def main() -> None:
    """Never a traceback for what a person can mend."""
    SESSION.is_json = "--json" in sys.argv[1:]
    try:
        status = app(standalone_mode=False)
        if status == ExitCode.INTERRUPTED:  # all that typer leaves of a KeyboardInterrupt
            raise KeyboardInterrupt
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        status = _explain(error)
    sys.exit(status if isinstance(status, int) else 0)


def _explain(error: BaseException) -> int:
    """Tells what went wrong and gives the exit status; a fault of ours is raised again."""
    match error:
        case SwarmError():
            SESSION.failure(error)
            return error.exit_code
        case TyperException():
            SESSION.failure(UsageRefused(error.format_message()))
            return ExitCode.USAGE
        case typer.Abort() | KeyboardInterrupt():
            SESSION.failure(Interrupted("Interrupted."))
            return ExitCode.INTERRUPTED
        case BrokenPipeError():
            # Whoever read our output has enough (a pipe into `head`); nothing more to say.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.FAILED
        case _ if SESSION.is_json:
            SESSION.failure(InternalError(f"{type(error).__name__}: {error}"))
            return ExitCode.FAILED
    raise error


if __name__ == "__main__":
    main()
