"""Errors of the client itself: no node to talk to, or one that does not answer."""

from __future__ import annotations

from swarmharness.kernel.errors import Blame, ExitCode, SwarmError


class NoNode(SwarmError):
    """No node runs in this home."""

    code = "surfaces.node_not_running"
    blame = Blame.CALLER
    hint = "Start one with `swarm up`, or name its home with --home."
    exit_code = ExitCode.NO_NODE


class NodeUnresponsive(SwarmError):
    """The node is there, but the connection to it failed."""

    code = "surfaces.node_unresponsive"
    blame = Blame.WORLD
    hint = "`swarm status` tells whether it runs; its log is run/node.log in its home."
    exit_code = ExitCode.NO_NODE


class NodeBusy(SwarmError):
    """The node answers as many requests as it may at a time."""

    code = "surfaces.node_busy"
    blame = Blame.WORLD
    hint = "Try again in a moment, with fewer commands at a time."
    later = True
    http_status = 503
    exit_code = ExitCode.REFUSED
