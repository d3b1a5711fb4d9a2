"""An at-most-once register remembers which tasks an executor has started, so none runs twice.

The submitter may send an offer again after a lost connection; the executor that already started
it answers `TaskRepeated` instead of running the handler a second time. The register is bounded:
an id is forgotten after `REMEMBERED_STARTS` younger ones, far longer than any offer is repeated.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import final

from swarmharness.kernel.ids import NodeId
from swarmharness.tasks.errors import TaskRepeated
from swarmharness.tasks.task import TaskId

REMEMBERED_STARTS = 65_536  # at 1,000 tasks a second, a minute of starts; 10 MB at most


@final
class StartRegister:
    """Starts, by (submitter, task id): one submitter cannot block another's ids."""

    def __init__(self, limit: int = REMEMBERED_STARTS) -> None:
        self._limit = limit
        self._started: OrderedDict[tuple[NodeId, TaskId], None] = OrderedDict()

    def start(self, submitter: NodeId, task_id: TaskId) -> None:
        """Note the start, or raise `TaskRepeated`."""
        key = (submitter, task_id)
        if key in self._started:
            raise TaskRepeated(f"Task {task_id.hex()[:8]} was started here before.")
        self._started[key] = None
        if len(self._started) > self._limit:
            self._started.popitem(last=False)

    def withdraw(self, submitter: NodeId, task_id: TaskId) -> None:
        """The handler never started after all (the queue was full): it may be offered again."""
        self._started.pop((submitter, task_id), None)
