"""A task is one wish to have a skill run: a request, its attempts, and exactly one end."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType, final

import msgspec

from swarmharness.kernel.ids import NodeId

TaskId = NewType("TaskId", bytes)
"""16 random bytes, drawn by the submitter; one id covers every attempt."""

TASK_ID_BYTES = 16
DEFAULT_DEADLINE_MS = 120_000  # a person still waits; Dask and Ray wait forever
MAX_DEADLINE_MS = 24 * 3600 * 1000  # what a settlement may stay open, later


class TaskState(StrEnum):
    """Where a task stands, as its submitter sees it."""

    SUBMITTED = "submitted"
    OFFERED = "offered"
    WORKING = "working"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.EXPIRED}
)


@final
class TaskRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the submitter asks for.

    `input` is encoded JSON. `on` pins the task to one node. `retry` allows another node after an
    executor failed before its result.
    """

    skill: str
    input: bytes
    on: NodeId | None = None
    deadline_ms: int = DEFAULT_DEADLINE_MS
    retry: bool = True
