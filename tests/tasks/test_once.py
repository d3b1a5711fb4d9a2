"""At most once per task and executor, with bounded memory."""

from __future__ import annotations

import pytest

from swarmharness.kernel.ids import NodeId
from swarmharness.tasks.errors import TaskRepeated
from swarmharness.tasks.once import StartRegister
from swarmharness.tasks.task import TaskId

ME, OTHER = NodeId(b"m" * 32), NodeId(b"o" * 32)


def task(number: int) -> TaskId:
    return TaskId(number.to_bytes(16, "big"))


def test_a_second_start_is_refused_but_not_for_another_submitter() -> None:
    register = StartRegister()
    register.start(ME, task(1))
    register.start(OTHER, task(1))
    with pytest.raises(TaskRepeated):
        register.start(ME, task(1))


def test_a_withdrawn_start_may_be_offered_again() -> None:
    register = StartRegister()
    register.start(ME, task(1))
    register.withdraw(ME, task(1))
    register.start(ME, task(1))


def test_the_oldest_is_forgotten_at_the_limit_and_not_before() -> None:
    register = StartRegister(limit=2)
    register.start(ME, task(1))
    register.start(ME, task(2))
    with pytest.raises(TaskRepeated):
        register.start(ME, task(1))
    register.start(ME, task(3))
    register.start(ME, task(1))
