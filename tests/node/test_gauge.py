"""The gauge: how much is under way, and the moment when nothing is."""

from __future__ import annotations

import asyncio

import pytest

from swarmharness.node.gauge import Gauge

pytestmark = pytest.mark.virtual


async def test_idle_is_when_the_last_one_ends():
    gauge = Gauge()
    await gauge.wait_idle()
    waiting = asyncio.create_task(gauge.wait_idle())
    await waiting
    with gauge.one():
        with gauge.one():
            assert gauge.value == 2
            waiting = asyncio.create_task(gauge.wait_idle())
        await asyncio.sleep(1)
        assert (gauge.value, waiting.done()) == (1, False)
    await waiting


async def test_failing_work_ends_too():
    gauge = Gauge()
    with pytest.raises(RuntimeError), gauge.one():
        raise RuntimeError
    assert gauge.value == 0
    await gauge.wait_idle()
