import asyncio
import gc
import logging
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from swarmharness.simulator.faults import (
    Deadlock,
    ForbiddenUse,
    LeakedTasks,
    Livelock,
    UnhandledFailure,
)
from swarmharness.simulator.loop import EVENTS_PER_INSTANT, VirtualLoop, run_virtual

HOUR = 3600.0


def virtual_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def test_an_hour_passes_at_once_and_exactly():
    async def main():
        await asyncio.sleep(HOUR)
        await asyncio.sleep(0.000_001)
        return virtual_loop().now_us()

    assert run_virtual(main()) == 3_600_000_001


def test_time_stands_still_while_something_is_ready():
    async def main():
        loop = virtual_loop()
        for _ in range(100):
            await asyncio.sleep(0)
        return loop.now_us()

    assert run_virtual(main()) == 0


def test_timers_of_one_instant_run_in_the_order_they_were_set():
    async def main():
        order = []
        loop = virtual_loop()
        for index in range(20):
            loop.call_later(1 if index % 2 else 0.5, order.append, index)
        await asyncio.sleep(2)
        return order

    assert run_virtual(main()) == [*range(0, 20, 2), *range(1, 20, 2)]


def test_waiting_for_a_rounding_error_still_lets_time_pass():
    async def main():
        loop = virtual_loop()
        deadline = loop.time() + 0.1 + 0.2  # a little over 0.3
        rounds = 0
        while loop.time() < deadline:
            await asyncio.sleep(deadline - loop.time())
            rounds += 1
        return rounds, loop.now_us()

    assert run_virtual(main()) == (2, 300_001)


def test_timeouts_and_queues_of_asyncio_work():
    async def main():
        queue: asyncio.Queue[int] = asyncio.Queue(1)

        async def produce():
            for number in range(3):
                await asyncio.sleep(1)
                await queue.put(number)

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            got = [await queue.get() for _ in range(3)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await queue.get()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 5)
        return got, virtual_loop().now_us()

    assert run_virtual(main()) == ([0, 1, 2], 13_000_000)


def test_cancelled_far_timers_are_swept():
    async def main():
        loop = virtual_loop()
        for _ in range(10_000):
            loop.call_later(HOUR, print).cancel()
        return len(loop._timers)

    assert run_virtual(main()) < 300


def test_a_cancelled_ran_timer_frees_nothing():
    async def main():
        loop = virtual_loop()
        ran = [loop.call_later(0.1, int) for _ in range(1000)]
        await asyncio.sleep(1)
        for timer in ran:
            timer.cancel()
        return loop._cancelled_timers

    assert run_virtual(main()) == 0


async def cancellation_order() -> list[str]:
    order: list[str] = []

    async def wait_for_ever(name: str) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            order.append(name)

    async def fail() -> None:
        await asyncio.sleep(1)
        raise ValueError

    ballast = []
    try:
        async with asyncio.TaskGroup() as group:
            for index in range(40):
                ballast.append(bytearray(random.randrange(4000)))  # moves addresses
                group.create_task(wait_for_ever(f"g{index}"))
            group.create_task(fail())
    except* ValueError:
        pass
    futures = {asyncio.get_running_loop().create_future() for _ in range(40)}
    tasks = {asyncio.ensure_future(asyncio.sleep(i % 3, result=i)) for i in range(40)}
    done, _ = await asyncio.wait(tasks)
    order += [f"w{task.result()}" for task in done]
    order += [str(hash(future)) for future in futures]
    return order


def test_order_is_the_same_in_every_process():
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "ballast = [bytes(n) for n in range(int(sys.argv[1]))]\n"
        "import test_loop\n"
        "print(test_loop.run_virtual(test_loop.cancellation_order()))\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program, ballast],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed, ballast in (("0", "1"), ("1", "333"), ("random", "2000"))
    }
    assert len(answers) == 1
    assert "g39" in answers.pop()


def test_the_seed_decides_what_the_random_module_draws():
    async def main():
        return random.random()

    before = random.getstate()
    first, again, other = (run_virtual(main(), seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert random.getstate() == before


def test_a_deadlock_names_the_waiting_tasks():
    async def wait_on_nothing():
        await asyncio.get_running_loop().create_future()

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_on_nothing(), name="the waiter")

    with pytest.raises(Deadlock) as caught:
        run_virtual(main())
    text = str(caught.value)
    assert "main" in text
    assert "the waiter" in text
    assert "wait_on_nothing" in text
    assert "test_loop.py" in text


def test_a_livelock_is_reported():
    async def main():
        loop = virtual_loop()

        def again():
            loop.call_soon(again)

        again()
        await asyncio.sleep(1)

    with pytest.raises(Livelock, match=str(EVENTS_PER_INSTANT + 1)):
        run_virtual(main())


def test_a_leaked_task_is_an_error_and_is_unwound():
    cleaned = []

    async def linger():
        try:
            await asyncio.sleep(HOUR)
        finally:
            await asyncio.sleep(1)
            cleaned.append("yes")

    async def main():
        kept = asyncio.create_task(linger(), name="lingerer")
        await asyncio.sleep(0)
        return kept

    with pytest.raises(LeakedTasks, match="lingerer"):
        run_virtual(main())
    assert cleaned == ["yes"]


def test_the_failure_of_main_is_raised_as_it_is_with_a_note_on_leftovers():
    async def main():
        kept = asyncio.create_task(asyncio.sleep(HOUR), name="lingerer")
        await asyncio.sleep(0)
        raise KeyError(kept.get_name())

    with pytest.raises(KeyError) as caught:
        run_virtual(main())
    assert "lingerer" in "".join(caught.value.__notes__)


def test_a_failing_callback_fails_the_run():
    async def main():
        virtual_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(UnhandledFailure, match="ZeroDivisionError") as caught:
        run_virtual(main())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_task_failure_nobody_looked_at_fails_the_run():
    async def fail():
        raise LookupError("unseen")

    async def main():
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        ring = [task]
        ring.append(ring)  # only the collector frees it

    with pytest.raises(UnhandledFailure, match="unseen"):
        run_virtual(main())


def test_an_abandoned_generator_is_closed_before_the_end():
    closed = []

    async def numbers():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(1)
            closed.append("yes")

    async def main(kept):
        generator = numbers()
        kept.append(generator)
        await anext(generator)

    kept: list[object] = []
    run_virtual(main(kept))
    assert closed == ["yes"]


def _start_thread():
    threading.Thread(target=int).start()


def _open_socket():
    socket.socket().close()


FORBIDDEN = {
    "thread": _start_thread,
    "socket": _open_socket,
    "name": lambda: socket.getaddrinfo("localhost", 1),
    "child": lambda: subprocess.run(["true"]),
    "sleep": lambda: time.sleep(0),
    "time": lambda: [time.time()],
    "monotonic": lambda: [time.monotonic()],
    "perf_counter": lambda: [time.perf_counter_ns()],
    "signal": lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL),
    "as_completed": lambda: list(asyncio.as_completed([])),
    "loop_signal": lambda: virtual_loop().add_signal_handler(signal.SIGUSR1, int),
    "reader": lambda: virtual_loop().add_reader(0, int),
    "executor": lambda: virtual_loop().run_in_executor(None, int),
}


@pytest.mark.parametrize("deed", FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_cannot_be_repeated_ends_the_run_even_if_swallowed(deed):
    raised = []

    async def main():
        try:
            deed()
        except ForbiddenUse as error:
            raised.append(error)
        await asyncio.sleep(1)
        raised.append("went on")

    with pytest.raises(ForbiddenUse):
        run_virtual(main())
    assert len(raised) == 1


COROUTINES = {
    "to_thread": lambda: asyncio.to_thread(int),
    "connect": lambda: asyncio.open_connection("127.0.0.1", 1),
    "serve": lambda: asyncio.start_server(print, "127.0.0.1", 0),
    "child": lambda: asyncio.create_subprocess_exec("true"),
}


@pytest.mark.parametrize("deed", COROUTINES.values(), ids=COROUTINES)
def test_asyncio_calls_that_need_the_world_are_refused(deed):
    async def main():
        await deed()

    with pytest.raises(ForbiddenUse):
        run_virtual(main())


def test_the_real_world_is_back_afterwards():
    async def main():
        with pytest.raises(ForbiddenUse):
            time.time()

    functions = time.time, time.monotonic, signal.signal, asyncio.as_completed
    with pytest.raises(ForbiddenUse):
        run_virtual(main())
    assert (time.time, time.monotonic, signal.signal, asyncio.as_completed) == functions
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    thread = threading.Thread(target=time.time)
    thread.start()
    thread.join()


def test_logging_is_no_forbidden_use(caplog):
    async def main():
        logging.getLogger("simulated").warning("seen")

    run_virtual(main())
    assert "seen" in caplog.text


async def test_a_virtual_run_inside_a_running_loop_is_refused():
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="running event loop"):
        run_virtual(coroutine)


@pytest.mark.virtual
async def test_the_marker_runs_a_test_on_the_virtual_loop():
    await asyncio.sleep(HOUR)
    assert virtual_loop().now_us() == 3_600_000_000
