"""An update is what the submitter of a task sees while it runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import final

import msgspec

from swarmharness.kernel.ids import NodeId
from swarmharness.tasks.messages import UsageMessage
from swarmharness.tasks.task import TaskId


@final
class TaskOffered(msgspec.Struct, frozen=True):
    """The task went to this node."""

    node: NodeId
    attempt: int


@final
class TaskAccepted(msgspec.Struct, frozen=True):
    """That node has started the handler."""

    node: NodeId


@final
class TaskChunk(msgspec.Struct, frozen=True):
    """One piece of a stream: encoded JSON and its text."""

    n: int
    value: bytes
    text: str


@final
class TaskProgress(msgspec.Struct, frozen=True):
    """How far the handler says it is."""

    thousandths: int
    note: str


@final
class TaskArtifact(msgspec.Struct, frozen=True):
    """A file that the handler made; its hash was checked."""

    name: str
    media_type: str
    sha256: bytes
    content: bytes


@final
class TaskMoved(msgspec.Struct, frozen=True):
    """The attempt failed; chunks and artifacts seen so far are void, the next node starts anew."""

    node: NodeId
    code: str
    sentence: str


@final
class TaskCompleted(msgspec.Struct, frozen=True):
    """The one good end. `output` is encoded JSON, or None after a stream."""

    task_id: TaskId
    node: NodeId
    attempts: int
    failures: int
    output: bytes | None
    usage: UsageMessage


TaskUpdate = (
    TaskOffered | TaskAccepted | TaskChunk | TaskProgress | TaskArtifact | TaskMoved | TaskCompleted
)

TaskUpdates = AsyncGenerator[TaskUpdate, None]
"""One task's updates. Closing it cancels the task."""
