"""Errors of the command line itself."""

from __future__ import annotations

from swarmharness.kernel.errors import Blame, ExitCode, SwarmError

TERMINATED = 128 + 15  # what a shell reports of a process that SIGTERM has ended


class UsageRefused(SwarmError):
    """The command line could not be understood."""

    code = "surfaces.usage_wrong"
    blame = Blame.CALLER
    hint = "`swarm --help` and `swarm COMMAND --help` explain."
    exit_code = ExitCode.USAGE


class Interrupted(SwarmError):
    """Ctrl-C ended the command before it was done."""

    code = "surfaces.interrupted"
    blame = Blame.CALLER
    hint = "Nothing is left running; give the command again when it suits."
    exit_code = ExitCode.INTERRUPTED


class Terminated(SwarmError):
    """A signal other than Ctrl-C ended the command before it was done."""

    code = "surfaces.terminated"
    blame = Blame.WORLD
    hint = "Nothing is left running; whoever sent the signal knows why."
    exit_code = TERMINATED


class FileNotKept(SwarmError):
    """A file that a skill made could not be written where --out says."""

    code = "surfaces.file_not_kept"
    blame = Blame.CALLER
    hint = "Name another directory with --out, and run the skill again."


class SystemRefused(SwarmError):
    """The operating system refused what the command needs, such as space on the disk."""

    code = "surfaces.system_refused"
    blame = Blame.CALLER
    hint = "Is there space on the disk, and may this user read and write there?"


class ListenMalformed(SwarmError):
    """--listen is not HOST:PORT."""

    code = "surfaces.listen_malformed"
    blame = Blame.CALLER
    hint = "Write --listen HOST:PORT, such as 0.0.0.0:4711; port 0 takes a free one."
    exit_code = ExitCode.USAGE
