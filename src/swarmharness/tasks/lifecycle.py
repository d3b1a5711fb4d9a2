"""A lifecycle decides what happens to one task next, as its submitter sees it.

Theory of operation. The shell around this core does three things on request: find a node, offer
the task to it, wait a moment. Each outcome comes back as an event; the answer is the next effect.
Exactly one `Close` ends every task, whatever the peers do.

Two kinds of bad news are kept apart. A *decline* (the node is full, or is leaving) happened before
the handler started: nothing is lost by asking the next node, and when every node is full the task
waits, with doubling pauses, until its deadline. A *failure* happened after the start, or may have,
as when a connection dies with the offer on its way: the task moves on only if the error says that
another node may do better and the caller allows a second run, and only `FAILURE_LIMIT` times, since
a task that kills three executors is not their fault.

    submitted ──chosen──▶ offered ──accepted──▶ working ──result──▶ completed
        ▲  │nobody            │declined             │failed
        │  └──▶ failed        │                     ├──▶ failed
        └─────────────────────┴─────────────────────┘
    from any of the first three: cancel ──▶ canceled, deadline ──▶ expired
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, final

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import NodeId, node_id_short
from swarmharness.network.errors import ConnectionLost, ProtocolViolation, StreamReset
from swarmharness.tasks.errors import (
    AttemptsExhausted,
    NobodyOffers,
    TaskCancelled,
    TaskExpired,
)
from swarmharness.tasks.task import TaskRequest, TaskState

FAILURE_LIMIT = 3  # executors that may fail one task; Hadoop allows 4, Ray 3
FIRST_PAUSE_MS = 25  # shorter than most handlers, so that a freed place is found soon
LONGEST_PAUSE_MS = 1_000  # keeps the last of many waiting tasks from a long idle wait
_SILENT = (ConnectionLost, ProtocolViolation, StreamReset)
"""Ends without a word from the executor: the handler may have been started."""

HISTORY_LIMIT = 32  # attempts kept for the explanation; declines repeat themselves


class Begin(NamedTuple):
    """The task was stored."""


class Chosen(NamedTuple):
    """Routing found a node."""

    node: NodeId


class NobodyLeft(NamedTuple):
    """Routing knows no node outside the excluded ones.

    `reason` is set where this node has the skill, but cannot serve it.
    """

    reason: SwarmError | None = None


class Accepted(NamedTuple):
    """The executor started the handler."""


class AttemptFailed(NamedTuple):
    """The attempt ended without a result."""

    error: SwarmError


class PauseEnded(NamedTuple):
    """The wait for capacity is over."""


class ResultReceived(NamedTuple):
    """The executor delivered."""


class CancelRequested(NamedTuple):
    """The submitter no longer wants it."""


class DeadlinePassed(NamedTuple):
    """The task's time is up."""


Event = (
    Begin
    | Chosen
    | NobodyLeft
    | Accepted
    | AttemptFailed
    | PauseEnded
    | ResultReceived
    | CancelRequested
    | DeadlinePassed
)


class ChooseNode(NamedTuple):
    """Ask routing for a node that is not excluded."""

    excluded: frozenset[NodeId]


class Offer(NamedTuple):
    """Send the task to this node."""

    node: NodeId
    attempt: int


class Pause(NamedTuple):
    """Everybody is full: come back after this long."""

    ms: int


class Await(NamedTuple):
    """Nothing to do: the attempt goes on."""


class Close(NamedTuple):
    """The one end; `error` is None only when the task was completed."""

    state: TaskState
    error: SwarmError | None


Effect = ChooseNode | Offer | Pause | Await | Close


class Attempt(NamedTuple):
    """One node's try, for the explanation."""

    node: NodeId
    was_started: bool
    code: str
    sentence: str


@final
class Lifecycle:
    """One task's decisions. `handle` is total over `TRANSITIONS`; other pairs are our bug."""

    def __init__(self, request: TaskRequest, *, now_us: int) -> None:
        self.request = request
        self.state = TaskState.SUBMITTED
        self.deadline_us = now_us + request.deadline_ms * 1000
        self.node: NodeId | None = None
        self.attempts = 0
        self.failures = 0
        self.history: list[Attempt] = []
        self._failed: set[NodeId] = set()
        self._full: set[NodeId] = set()
        self._pause_ms = FIRST_PAUSE_MS

    def handle(self, event: Event, now_us: int) -> Effect:
        """The next effect. Time only ends a task; it never chooses between other outcomes."""
        action = TRANSITIONS.get((self.state, type(event)))
        assert action is not None, f"{type(event).__name__} in state {self.state}"
        effect = action(self, event)
        if not self.state.is_terminal and now_us >= self.deadline_us:
            return self._expire(event)
        return effect

    def remaining_ms(self, now_us: int) -> int:
        """What is left of the task's time."""
        return max(0, (self.deadline_us - now_us) // 1000)

    def _choose(self, _event: Event) -> Effect:
        self.state = TaskState.SUBMITTED
        return ChooseNode(frozenset(self._failed | self._full))

    def _resume(self, event: Event) -> Effect:
        self._full.clear()
        return self._choose(event)

    def _offer(self, event: Event) -> Effect:
        assert isinstance(event, Chosen)
        assert event.node not in self._failed, "routing offered an excluded node"
        self.state = TaskState.OFFERED
        self.node = event.node
        self.attempts += 1
        return Offer(event.node, self.attempts)

    def _accepted(self, _event: Event) -> Effect:
        self.state = TaskState.WORKING
        self._pause_ms = FIRST_PAUSE_MS
        return Await()

    def _declined(self, event: Event) -> Effect:
        assert isinstance(event, AttemptFailed)
        if isinstance(event.error, _SILENT):
            return self._broke(event)
        node = self._remember(event.error, was_started=False)
        if not event.error.elsewhere:
            return self._close(TaskState.FAILED, event.error)
        if event.error.later:
            self._full.add(node)
        else:
            self._failed.add(node)
        return self._choose(event)

    def _broke(self, event: Event) -> Effect:
        assert isinstance(event, AttemptFailed)
        node = self._remember(event.error, was_started=True)
        self._failed.add(node)
        self.failures += 1
        if not event.error.elsewhere or not self.request.retry:
            return self._close(TaskState.FAILED, event.error)
        if self.failures >= FAILURE_LIMIT:
            return self._close(TaskState.FAILED, self._exhausted())
        return self._choose(event)

    def _nobody(self, event: Event) -> Effect:
        assert isinstance(event, NobodyLeft)
        if self._full:
            pause_ms = self._pause_ms
            self._pause_ms = min(LONGEST_PAUSE_MS, 2 * pause_ms)
            return Pause(pause_ms)
        if self.history:
            return self._close(TaskState.FAILED, self._exhausted())
        if event.reason is not None:
            return self._close(TaskState.FAILED, event.reason)
        where = "" if self.request.on is None else f" on node {node_id_short(self.request.on)}"
        return self._close(
            TaskState.FAILED,
            NobodyOffers(f"Nobody offers the skill “{self.request.skill}”{where}."),
        )

    def _complete(self, _event: Event) -> Effect:
        return self._close(TaskState.COMPLETED, None)

    def _cancel(self, _event: Event) -> Effect:
        return self._close(TaskState.CANCELED, TaskCancelled("The task was cancelled."))

    def _expire(self, _event: Event) -> Effect:
        seconds = self.request.deadline_ms / 1000
        error = TaskExpired(
            f"No result within {seconds:g} s.", data={"attempts": self._attempts_data()}
        )
        return self._close(TaskState.EXPIRED, error)

    def _close(self, state: TaskState, error: SwarmError | None) -> Close:
        self.state = state
        return Close(state, error)

    def _remember(self, error: SwarmError, *, was_started: bool) -> NodeId:
        assert self.node is not None, "an attempt has a node"
        if len(self.history) < HISTORY_LIMIT:
            self.history.append(Attempt(self.node, was_started, error.code, error.sentence))
        return self.node

    def _exhausted(self) -> SwarmError:
        last = self.history[-1]
        if len(self.history) == 1:
            sentence = f"The only node that could be tried failed: {last.sentence}"
        else:
            sentence = f"All {len(self.history)} attempts failed; the last: {last.sentence}"
        return AttemptsExhausted(sentence, data={"attempts": self._attempts_data()})

    def _attempts_data(self) -> list[dict[str, object]]:
        return [
            {
                "node": node_id_short(attempt.node),
                "started": attempt.was_started,
                "code": attempt.code,
                "sentence": attempt.sentence,
            }
            for attempt in self.history
        ]


_SUBMITTED, _OFFERED, _WORKING = TaskState.SUBMITTED, TaskState.OFFERED, TaskState.WORKING

# ruff: noqa: SLF001  the table belongs to the class: it is its behaviour, laid out
TRANSITIONS: dict[tuple[TaskState, type[Event]], Callable[[Lifecycle, Event], Effect]] = {
    (_SUBMITTED, Begin): Lifecycle._choose,
    (_SUBMITTED, Chosen): Lifecycle._offer,
    (_SUBMITTED, NobodyLeft): Lifecycle._nobody,
    (_SUBMITTED, PauseEnded): Lifecycle._resume,
    (_SUBMITTED, CancelRequested): Lifecycle._cancel,
    (_SUBMITTED, DeadlinePassed): Lifecycle._expire,
    (_OFFERED, Accepted): Lifecycle._accepted,
    (_OFFERED, AttemptFailed): Lifecycle._declined,
    (_OFFERED, CancelRequested): Lifecycle._cancel,
    (_OFFERED, DeadlinePassed): Lifecycle._expire,
    (_WORKING, ResultReceived): Lifecycle._complete,
    (_WORKING, AttemptFailed): Lifecycle._broke,
    (_WORKING, CancelRequested): Lifecycle._cancel,
    (_WORKING, DeadlinePassed): Lifecycle._expire,
}
