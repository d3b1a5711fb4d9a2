import asyncio

import pytest

from swarmharness.network.errors import ConnectionLost
from swarmharness.network.transport.inbox import Inbox


def closed():
    return ConnectionLost("Closed.")


async def waiters(inbox, count):
    tasks = [asyncio.create_task(inbox.get()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_arrivals_go_out_in_order_to_those_who_came_first():
    inbox = Inbox()
    inbox.put(1)
    first, second, third = await waiters(inbox, 3)
    inbox.put(2)
    inbox.put(3)
    assert [await first, await second, await third] == [1, 2, 3]


async def test_closing_wakes_everybody_with_the_first_error_and_returns_the_rest():
    inbox = Inbox()
    tasks = await waiters(inbox, 3)
    assert inbox.close(closed) == []
    assert inbox.close(AssertionError) == []
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, ConnectionLost)
    with pytest.raises(ConnectionLost):
        await inbox.get()
    inbox = Inbox()
    inbox.put("untaken")
    assert inbox.close(closed) == ["untaken"]


async def test_a_cancelled_waiter_is_forgotten():
    inbox = Inbox()
    first, second = await waiters(inbox, 2)
    first.cancel()
    await asyncio.sleep(0)
    inbox.put("for the second")
    assert await second == "for the second"
    assert first.cancelled()


async def test_a_waiter_cancelled_after_its_wake_up_passes_it_on():
    inbox = Inbox()
    first, second = await waiters(inbox, 2)
    inbox.put("once")
    first.cancel()
    assert await second == "once"
    assert first.cancelled()


async def test_a_waiter_cancelled_while_the_inbox_closes_harms_nobody():
    inbox = Inbox()
    first, second = await waiters(inbox, 2)
    inbox.close(closed)
    first.cancel()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert isinstance(outcomes[1], ConnectionLost)
