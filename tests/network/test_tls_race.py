import asyncio

import pytest

from swarmharness.network.errors import DialRefused, DialTimeout, IdentityMismatch
from swarmharness.network.transport.tls_race import first_to_succeed

pytestmark = pytest.mark.virtual


class Course:
    """Runners that take virtual time, and what became of them."""

    def __init__(self):
        self.log = []

    def runner(self, name, after_ms, error=None, *, stubborn=False):
        async def run():
            self.log.append(f"{name} starts")
            try:
                await asyncio.sleep(after_ms / 1000)
            except asyncio.CancelledError:
                self.log.append(f"{name} cancelled")
                if not stubborn:
                    raise
            if error is not None:
                raise error
            return name

        return lambda: asyncio.get_running_loop().create_task(run())

    async def race(self, *runners):
        return await first_to_succeed(
            runners, stagger_ms=250, lose=lambda name: self.log.append(f"{name} lost")
        )


async def test_the_second_starts_after_its_head_start_and_may_win():
    course = Course()
    winner = await course.race(course.runner("slow", 1000), course.runner("fast", 100))
    assert winner == "fast"
    assert course.log == ["slow starts", "fast starts", "slow cancelled"]
    assert asyncio.get_running_loop().time() == pytest.approx(0.35)


async def test_a_quick_first_keeps_the_others_from_starting():
    course = Course()
    assert await course.race(course.runner("a", 200), course.runner("b", 0)) == "a"
    assert course.log == ["a starts"]


async def test_a_failure_lets_the_next_start_at_once():
    course = Course()
    runners = course.runner("a", 10, DialRefused("a")), course.runner("b", 10)
    assert await course.race(*runners) == "b"
    assert asyncio.get_running_loop().time() == pytest.approx(0.02)


async def test_when_all_fail_the_most_telling_error_is_raised():
    course = Course()
    with pytest.raises(IdentityMismatch):
        await course.race(
            course.runner("a", 10, DialTimeout("a")),
            course.runner("b", 300, IdentityMismatch("b")),
            course.runner("c", 10, DialRefused("c")),
        )


async def test_two_at_the_same_moment_one_is_lost():
    course = Course()
    assert await course.race(course.runner("a", 300), course.runner("b", 50)) in {"a", "b"}
    assert [line for line in course.log if line.endswith(" lost")] in (["a lost"], ["b lost"])


async def test_a_loser_that_finishes_all_the_same_is_lost():
    course = Course()
    winner = await course.race(course.runner("a", 900, stubborn=True), course.runner("b", 10))
    assert winner == "b"
    assert course.log[-2:] == ["a cancelled", "a lost"]


async def test_cancelling_the_race_ends_all_runners():
    course = Course()
    racing = asyncio.create_task(course.race(course.runner("a", 9000), course.runner("b", 9000)))
    await asyncio.sleep(1)
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    assert course.log[-2:] == ["a cancelled", "b cancelled"]


async def test_cancelling_while_losers_end_loses_the_winner_too():
    course = Course()

    async def clings():
        try:
            await asyncio.sleep(9)
        finally:
            await asyncio.sleep(1)

    racing = asyncio.create_task(
        course.race(
            lambda: asyncio.get_running_loop().create_task(clings()), course.runner("b", 10)
        )
    )
    await asyncio.sleep(0.5)
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    assert course.log == ["b starts", "b lost"]
    await asyncio.sleep(1)


async def test_a_bug_is_not_mistaken_for_a_refusal():
    course = Course()
    with pytest.raises(ZeroDivisionError):
        await course.race(course.runner("a", 1, ZeroDivisionError()), course.runner("b", 1))
