"""Errors of tasks as a whole, after every attempt."""

from __future__ import annotations

from swarmharness.kernel.errors import Blame, ExitCode, SwarmError


class NobodyOffers(SwarmError):
    """No node that this one knows offers the skill (or the one that was asked for does not)."""

    code = "tasks.nobody_offers"
    blame = Blame.CALLER
    hint = "`swarm skills` lists what is on offer; `--peer ADDRESS` adds a node."
    http_status = 404


class AttemptsExhausted(SwarmError):
    """Every node that was tried failed; `data["attempts"]` tells each one's reason."""

    code = "tasks.attempts_exhausted"
    blame = Blame.WORLD
    hint = "Each node's reason is given with its attempt; try again, or add nodes."
    http_status = 502


class PeerGone(SwarmError):
    """The chosen node left before the task was sent to it; nothing has started."""

    code = "tasks.peer_gone"
    blame = Blame.WORLD
    hint = "The task moves on to another node by itself."
    elsewhere = True
    http_status = 502


class TaskExpired(SwarmError):
    """The task's deadline passed before a result."""

    code = "tasks.deadline_passed"
    blame = Blame.WORLD
    hint = "Give the task more time with --deadline, or add nodes."
    http_status = 504
    exit_code = ExitCode.DEADLINE


class TaskCancelled(SwarmError):
    """The submitter withdrew the task."""

    code = "tasks.task_cancelled"
    blame = Blame.CALLER
    hint = "Nothing to do: the task was cancelled on request."
    http_status = 499
    exit_code = ExitCode.INTERRUPTED


class TaskRepeated(SwarmError):
    """The executor has started this task before; at most once means never twice."""

    code = "tasks.task_repeated"
    blame = Blame.CALLER
    hint = "Submit it as a new task if it should run again."
    elsewhere = True
    http_status = 409


class TooManyTasks(SwarmError):
    """This node holds as many unfinished tasks as it may."""

    code = "tasks.table_full"
    blame = Blame.SELF
    hint = "Wait for running tasks to end."
    http_status = 429
    exit_code = ExitCode.REFUSED
