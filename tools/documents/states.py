"""Both state machines of a task's way: the task itself, and the sandbox that runs it.

Theory of operation. The sandbox's table names the next state of each pair. The task's table names
an action, and where that leads is decided by the action's code. So the code is read: the states
that it mentions and the effects that it makes, through the actions that it calls in turn, are what
the action can end with. So the diagram cannot go stale by itself.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple, get_args

from documents import markdown
from documents.sources import fact
from swarmharness.skills.sandbox import lifecycle as sandbox_lifecycle
from swarmharness.tasks import lifecycle as task_lifecycle

STAYS = {"Pause"}
"""Effects that leave the task in the state in which it is."""


class Step(NamedTuple):
    """One row of a state table."""

    state: str
    event: str
    next_states: list[str]
    effects: list[str]


def text() -> str:
    tasks, sandboxes = _task_steps(), _sandbox_steps()
    return markdown.document(
        "The states of a task, and of a sandbox",
        "## A task, as its submitter sees it",
        _diagram(tasks),
        markdown.table(
            ("In state", "Event", "What it means", "Next state", "What the node does"),
            (
                (
                    f"`{step.state}`",
                    f"`{step.event}`",
                    fact(getattr(task_lifecycle, step.event)),
                    _either(step.next_states),
                    _either(step.effects),
                )
                for step in tasks
            ),
        ),
        "Whatever the event, a task whose deadline has passed becomes `expired`. A pair that the"
        " table lacks is our own mistake, and an assertion. The code is `tasks/lifecycle.py`.",
        "## A sandbox, as its node sees it",
        _diagram(sandboxes),
        markdown.table(
            ("In state", "Event", "Next state"),
            (
                (f"`{step.state}`", f"`{step.event}`", _either(step.next_states))
                for step in sandboxes
            ),
        ),
        "From every state `lost` leads to `dead`. A pair that the table lacks is our own mistake,"
        " or a breach of protocol by the guest. The code is `skills/sandbox/lifecycle.py`.",
    )


def _task_steps() -> list[Step]:
    steps = []
    for (state, event), action in task_lifecycle.TRANSITIONS.items():
        next_states, effects = _outcomes(action.__name__)
        if STAYS & set(effects) and str(state) not in next_states:
            next_states = [str(state), *next_states]
        steps.append(Step(str(state), event.__name__, next_states, effects))
    return steps


def _outcomes(action: str) -> tuple[list[str], list[str]]:
    """The states and the effects that an action can end with, in the order of the code."""
    known = {effect.__name__ for effect in get_args(task_lifecycle.Effect)}
    states: dict[str, None] = {}
    effects: dict[str, None] = {}
    for node in _in_order(_methods()[action]):
        match node:
            case ast.Attribute(value=ast.Name(id="TaskState"), attr=name):
                states[str(task_lifecycle.TaskState[name])] = None
            case ast.Call(func=ast.Name(id=name)) if name in known:
                effects[name] = None
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name)):
                further_states, further_effects = _outcomes(name)
                states |= dict.fromkeys(further_states)
                effects |= dict.fromkeys(further_effects)
    return list(states), list(effects)


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """Unlike `ast.walk`, as a reader meets them."""
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


@cache
def _methods() -> dict[str, ast.FunctionDef]:
    source = textwrap.dedent(inspect.getsource(task_lifecycle.Lifecycle))
    [definition] = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    return {line.name: line for line in definition.body if isinstance(line, ast.FunctionDef)}


def _sandbox_steps() -> list[Step]:
    """Without `lost`, which leads from everywhere to the same end."""
    return [
        Step(str(state), str(event), [str(following)], [])
        for (state, event), following in sandbox_lifecycle.TRANSITIONS.items()
        if event is not sandbox_lifecycle.Event.LOST
    ]


def _diagram(steps: list[Step]) -> str:
    """One arrow for each pair of states, labelled with all events that cause it."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for step in steps:
        for following in step.next_states:
            arrows.setdefault((step.state, following), []).append(step.event)
    left = {start for start, end in arrows if start != end}
    ends = dict.fromkeys(end for _, end in arrows if end not in left)
    lines = [
        f"[*] --> {steps[0].state}",
        *(f"{start} --> {end}: {' or '.join(events)}" for (start, end), events in arrows.items()),
        *(f"{end} --> [*]" for end in ends),
    ]
    body = "\n".join(f"    {line}" for line in lines)
    return f"```mermaid\nstateDiagram-v2\n{body}\n```"


def _either(words: list[str]) -> str:
    return " or ".join(f"`{word}`" for word in words)
