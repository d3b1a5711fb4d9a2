"""Errors of a node's own home, identity, configuration and start."""

from __future__ import annotations

from swarmharness.kernel.errors import Blame, ExitCode, SwarmError


class IdentityUnsafe(SwarmError):
    """The key file is not what this program wrote; it is never repaired or overwritten."""

    code = "node.identity_unsafe"
    blame = Blame.CALLER
    hint = "Restore identity/node.key from a backup, or move it away to start a new node."


class HomeInUse(SwarmError):
    """Another process runs the node of this home."""

    code = "node.home_in_use"
    blame = Blame.CALLER
    hint = "`swarm status` shows that node, `swarm down` ends it; --home DIR starts another one."


class HomeUnusable(SwarmError):
    """The home directory cannot be read or written."""

    code = "node.home_unusable"
    blame = Blame.CALLER
    hint = "Choose another directory with --home."


class ConfigInvalid(SwarmError):
    """config.toml says something that this version does not understand."""

    code = "node.config_invalid"
    blame = Blame.CALLER
    hint = "Mend the named line of config.toml."
    exit_code = ExitCode.USAGE


class ListenFailed(SwarmError):
    """The listening address could not be taken."""

    code = "node.listen_failed"
    blame = Blame.CALLER
    hint = "Choose another --listen HOST:PORT; port 0 takes a free one."


class StartFailed(SwarmError):
    """The node's process ended, or was not ready in time, without saying why."""

    code = "node.start_failed"
    blame = Blame.SELF
    hint = (
        "run/node.log in its home tells more; `swarm up` without --detach shows it as it happens."
    )


class ShuttingDown(SwarmError):
    """The node takes no new work because it is about to end."""

    code = "node.shutting_down"
    blame = Blame.WORLD
    hint = "Ask another node, or start this one again."
    elsewhere = True
    http_status = 503
    exit_code = ExitCode.REFUSED


class AssertionsDisabled(SwarmError):
    """Python runs with -O: the promises that this program checks about itself would be off."""

    code = "node.assertions_disabled"
    blame = Blame.CALLER
    hint = "Start without -O and without PYTHONOPTIMIZE."
