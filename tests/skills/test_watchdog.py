import asyncio
import os
import subprocess
import sys
import threading
from typing import cast

import pytest

from swarmharness.skills.sandbox import watchdog as watchdog_module
from swarmharness.skills.sandbox.watchdog import (
    IDLE_CPU_PERCENT,
    IDLE_LOOKS,
    Breach,
    TreeMeter,
    TreeUsage,
    Watchdog,
)

MIB = 1024 * 1024


def _python(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def test_the_time_of_reaped_grandchildren_counts() -> None:
    process = _python(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    while time.process_time() < 0.25: pass\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print('ready', flush=True); input()"
    )
    try:
        usage = TreeMeter(process.pid).sample()
    finally:
        _end(process)
    assert usage.cpu_ms >= 240
    assert usage.processes == 1


def test_memory_of_the_whole_tree_is_summed() -> None:
    process = _python(
        "import os, sys\n"
        "reader, writer = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    block = b'x' * (40 << 20); os.write(writer, b'.'); sys.stdin.read(); os._exit(0)\n"
        "os.read(reader, 1)\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    try:
        meter = TreeMeter(process.pid)
        usage = meter.sample()
        exact_kib = meter.exact_kib()
    finally:
        _end(process)
    assert usage.processes == 2
    assert usage.rss_kib * 1024 > 40 * MIB
    assert 40 * MIB < exact_kib * 1024 < usage.rss_kib * 1024, "shared pages are counted once"
    assert meter.max_rss_kib == usage.rss_kib
    meter.reset_max()
    assert meter.max_rss_kib == 0
    assert meter.max_cpu_ms == 0


def test_a_process_that_is_gone_uses_nothing_but_keeps_its_time() -> None:
    process = _python(
        "import time\nwhile time.process_time() < 0.1: pass\nprint('ready', flush=True); input()"
    )
    meter = TreeMeter(process.pid)
    before = meter.sample()
    _end(process)
    after = meter.sample()
    assert after.cpu_ms == 0
    assert meter.max_cpu_ms == before.cpu_ms > 0
    assert after.rss_kib == 0
    assert after.processes == 0


async def test_the_alarm_comes_once_and_only_over_the_limit() -> None:
    loop = asyncio.get_running_loop()
    breach: asyncio.Future[Breach] = loop.create_future()
    block = bytearray(os.urandom(1)) * (64 * MIB)
    watchdog = Watchdog(TreeMeter(os.getpid()), breach.set_result, limit_bytes=32 * MIB)
    quiet: list[Breach] = []
    silent = Watchdog(TreeMeter(os.getpid()), quiet.append, limit_bytes=1 << 40)
    watchdog.start()
    silent.start()
    kind, found = await breach
    assert kind == "memory"
    assert found > 32 * 1024
    silent.stop()
    assert quiet == []
    del block


async def test_threads_over_the_limit_raise_the_alarm() -> None:
    breach: asyncio.Future[Breach] = asyncio.get_running_loop().create_future()
    meter = TreeMeter(os.getpid())
    present = meter.sample().threads
    gate = threading.Event()
    threads = [threading.Thread(target=gate.wait) for _ in range(3)]
    quiet: list[Breach] = []
    silent = Watchdog(meter, quiet.append, limit_bytes=1 << 40, limit_threads=present + 3)
    watchdog = Watchdog(meter, breach.set_result, limit_bytes=1 << 40, limit_threads=present + 2)
    for thread in threads:
        thread.start()
    try:
        silent.start()
        watchdog.start()
        assert await breach == Breach("processes", present + 3)
    finally:
        gate.set()
        for thread in threads:
            thread.join()
        silent.stop()
    assert quiet == []


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog_module, "WATCH_SECONDS", 0.001)
    monkeypatch.setattr(watchdog_module, "IDLE_WATCH_SECONDS", 0.03)


class ToldMeter:
    """Says what the test wants to be true, one look after the other; the last goes on for ever."""

    def __init__(self, *usages: TreeUsage) -> None:
        self._usages = list(usages)
        self.looks = 0

    def sample(self) -> TreeUsage:
        self.looks += 1
        return self._usages.pop(0) if len(self._usages) > 1 else self._usages[0]

    def exact_kib(self) -> int:
        return 0


def usage(processes: int) -> TreeUsage:
    return TreeUsage(0, 1, processes, processes)


@pytest.mark.usefixtures("quick_looks")
async def test_an_idle_tree_may_not_keep_processes_for_several_looks() -> None:
    breach: asyncio.Future[Breach] = asyncio.get_running_loop().create_future()
    meter = ToldMeter(usage(4), usage(4), usage(2), usage(5))
    watchdog = Watchdog(cast("TreeMeter", meter), breach.set_result)
    watchdog.start()
    watchdog.rest(2)
    assert await breach == Breach("leftovers", 3)
    assert meter.looks == 3 + IDLE_LOOKS, "two of the first three were not enough"


@pytest.mark.usefixtures("quick_looks")
async def test_an_idle_tree_may_not_burn_a_processor() -> None:
    process = _python("print('ready', flush=True)\nwhile True: pass")
    breach: asyncio.Future[Breach] = asyncio.get_running_loop().create_future()
    watchdog = Watchdog(TreeMeter(process.pid), breach.set_result)
    try:
        watchdog.start()
        watchdog.rest(1)
        kind, percent = await breach
    finally:
        _end(process)
    assert kind == "burning"
    assert percent > IDLE_CPU_PERCENT


@pytest.mark.usefixtures("quick_looks")
async def test_work_is_no_idling() -> None:
    meter = ToldMeter(usage(4))
    found: list[Breach] = []
    watchdog = Watchdog(cast("TreeMeter", meter), found.append)
    watchdog.start()
    while meter.looks < 2 * IDLE_LOOKS:
        await asyncio.sleep(0)
    watchdog.stop()
    assert found == []


async def test_the_look_that_is_due_is_kept_over_a_short_call() -> None:
    meter = ToldMeter(usage(1))
    watchdog = Watchdog(cast("TreeMeter", meter), lambda _: None)
    while meter.looks < 1:
        watchdog.start()
        watchdog.rest(1)
        await asyncio.sleep(0)
    watchdog.stop()
