import asyncio

import pytest

from swarmharness.simulator.virtual_clock import EPOCH_MS, VirtualClock


@pytest.mark.virtual
async def test_both_times_pass_with_the_loop():
    clock, skewed = VirtualClock(), VirtualClock(skew_ms=-5000)
    await asyncio.sleep(1.0005)
    assert clock.now_us() == skewed.now_us() == 1_000_500
    assert clock.wall_ms() == EPOCH_MS + 1000
    assert skewed.wall_ms() == EPOCH_MS - 4000


async def test_there_is_no_virtual_clock_on_a_real_loop():
    with pytest.raises(AssertionError, match="virtual loop"):
        VirtualClock()
