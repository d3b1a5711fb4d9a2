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
from swarmharness.app.errors import Interrupted, SystemRefused, UsageRefused
from swarmharness.app.session import SESSION, say, show_line
from swarmharness.kernel.errors import ExitCode, InternalError, SwarmError
from swarmharness.kernel.printable import printable_line

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
        str | None,
        typer.Option(help="The node's directory (also SWARM_HOME).", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Answer for programs.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Run skills on your own machines and on other people's, and let them use yours."""
    if home == "":
        raise typer.BadParameter("It is empty.", param_hint="--home")
    SESSION.home_path = None if home is None else Path(home)
    if context.invoked_subcommand is None and not version:
        say(context.get_help())
        raise typer.Exit(ExitCode.USAGE)
    SESSION.is_json = SESSION.is_json or json
    if version:
        if SESSION.is_json:
            SESSION.data("version", {"version": __version__})
        else:
            show_line(f"swarmharness {__version__}")
        raise typer.Exit


for module in (node_commands, task_commands, demo_command):
    module.register(app)


def main() -> None:
    """Never a traceback for what a person can mend."""
    SESSION.is_json = "--json" in sys.argv[1:]
    try:
        _check_text(sys.argv[1:])
        status = app(standalone_mode=False)
        sys.stdout.flush()  # here, where a full disk can still be told
        if status == ExitCode.INTERRUPTED:  # all that typer leaves of a KeyboardInterrupt
            raise KeyboardInterrupt
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        try:
            status = _explain(error)
        except OSError as refusal:  # nor could the explanation be written
            status = _tell_refusal(refusal)
    sys.exit(status if isinstance(status, int) else 0)


def _check_text(arguments: list[str]) -> None:
    for number, argument in enumerate(arguments, 1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = printable_line(argument)
            raise UsageRefused(f"Argument {number} is not UTF-8: {shown}") from None


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
        case OSError():
            return _tell_refusal(error)
        case _ if SESSION.is_json:
            SESSION.failure(InternalError(f"{type(error).__name__}: {error}"))
            return ExitCode.FAILED
    raise error


def _tell_refusal(error: OSError) -> int:
    """On stderr where stdout is what failed."""
    place = f" ({error.filename})" if error.filename else ""
    refusal = SystemRefused(f"{error.strerror or error}{place}.")
    try:
        sys.stdout.flush()
        SESSION.failure(refusal)
    except OSError:
        # What is still buffered would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        SESSION.is_json = False
        SESSION.failure(refusal)
    return ExitCode.FAILED


if __name__ == "__main__":
    main()
