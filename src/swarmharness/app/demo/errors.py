"""Errors of the demo."""

from __future__ import annotations

from swarmharness.kernel.errors import Blame, SwarmError


class ExamplesMissing(SwarmError):
    """The example skills are not part of this installation."""

    code = "surfaces.examples_missing"
    blame = Blame.SELF
    hint = "Run the demo from a checkout: make demo."


class NodeDidNotStart(SwarmError):
    """A node of the demo ended before it was ready."""

    code = "surfaces.demo_node_failed"
    blame = Blame.SELF
    hint = "Its last words are above; `swarm up` alone shows the same."


class TasksLost(SwarmError):
    """Not every task was completed."""

    code = "surfaces.demo_tasks_lost"
    blame = Blame.SELF
    hint = "This is a bug: a killed node must not cost a task."


class NothingSurvived(SwarmError):
    """Every task was done, but none had to survive the death of a node: nothing was shown."""

    code = "surfaces.demo_proved_nothing"
    blame = Blame.WORLD
    hint = "Run the demo again, with more --tasks: then a node is at work when it is killed."
