"""The engine with real guest processes, but nothing confined: see `engine_support`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from skills.engine_support import call_of, events_of, executor_of, runnable, write_skill
from swarmharness.kernel.errors import SwarmError
from swarmharness.skills.call import (
    Artifact,
    CallerClass,
    CallEvent,
    Chunk,
    Finished,
    Meters,
    Progress,
    Started,
)
from swarmharness.skills.errors import (
    BadOutput,
    HandlerFailed,
    InputTooLarge,
    InvalidInput,
    OutputTooLarge,
    Overloaded,
    ResourceExceeded,
    SandboxLost,
    SkillBroken,
    SkillTimeout,
    UnknownSkill,
)
from swarmharness.skills.sandbox.boot_plan import BootMode
from swarmharness.skills.sandbox.executor import SandboxExecutor
from swarmharness.skills.sandbox.runnable import Isolation
from swarmharness.skills.sandbox.sandbox import Sandbox

ECHO = """
async def handle(input: Input) -> Output:
    return Output(text=input.text)
"""
MODES = list(Isolation)
WARM_MODES = [Isolation.FORK, Isolation.WORKER]


def output_of(events: list[CallEvent]) -> Any:
    finished = events[-1]
    assert isinstance(finished, Finished)
    return None if finished.output is None else json.loads(finished.output)


async def run_text(executor: SandboxExecutor, skill: str, **fields: Any) -> Any:
    return output_of(await events_of(executor, call_of(skill, json.dumps(fields).encode())))


@pytest.mark.parametrize("isolation", MODES)
async def test_a_call_runs_in_every_mode(tmp_path: Path, isolation: Isolation) -> None:
    skill = runnable(write_skill(tmp_path / "echo", ECHO), isolation=isolation)
    async with executor_of(skill) as executor:
        for text in ("one", "two", "three"):
            events = await events_of(executor, call_of("echo", json.dumps({"text": text}).encode()))
            assert events[0] == Started()
            assert output_of(events) == {"text": text}
            finished = events[-1]
            assert isinstance(finished, Finished)
            assert finished.meters.bytes_in == len(json.dumps({"text": text}))
            assert finished.meters.bytes_out == len(
                json.dumps({"text": text}, separators=(",", ":"))
            )


HANDLERS = {
    "a plain function": """
def handle(input):
    return Output(text=input.text)
""",
    "a dict": """
async def handle(input):
    return {"text": input.text}
""",
    "a function that returns a coroutine": """
async def inner(input):
    return Output(text=input.text)
def handle(input):
    return inner(input)
""",
    "a wrapped function": """
import functools
def loud(f):
    @functools.wraps(f)
    async def wrapper(input):
        return await f(input)
    return wrapper
@loud
async def handle(input):
    return Output(text=input.text)
""",
}


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
async def test_every_kind_of_plain_handler(tmp_path: Path, handler: str) -> None:
    async with executor_of(runnable(write_skill(tmp_path / "kind", handler))) as executor:
        assert await run_text(executor, "kind", text="x") == {"text": "x"}


STREAMS = {
    "an async generator": """
async def handle(input):
    for i in range(input.n):
        yield i if i % 2 else f"s{i}"
""",
    "a plain generator": """
def handle(input):
    for i in range(input.n):
        yield i if i % 2 else f"s{i}"
""",
    "a wrapped async generator": """
import functools
def loud(f):
    @functools.wraps(f)
    def wrapper(input):
        return f(input)
    return wrapper
@loud
async def handle(input):
    for i in range(input.n):
        yield i if i % 2 else f"s{i}"
""",
    "a coroutine that returns a generator": """
async def handle(input):
    return (i if i % 2 else f"s{i}" for i in range(input.n))
""",
}


@pytest.mark.parametrize("handler", STREAMS.values(), ids=STREAMS)
async def test_every_kind_of_stream(tmp_path: Path, handler: str) -> None:
    async with executor_of(runnable(write_skill(tmp_path / "stream", handler))) as executor:
        events = await events_of(executor, call_of("stream", b'{"n":3}'))
        assert [e for e in events if isinstance(e, Chunk)] == [
            Chunk(0, b'"s0"', "s0"),  # type: ignore[arg-type]
            Chunk(1, b"1", "1"),  # type: ignore[arg-type]
            Chunk(2, b'"s2"', "s2"),  # type: ignore[arg-type]
        ]
        assert output_of(events) is None


async def test_chunks_of_any_type_have_json_and_upstreams_text(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "values",
        """
        import datetime, uuid
        async def handle(input):
            yield {"when": datetime.date(2024, 1, 2)}
            yield Output(text="o")
            yield float("nan")
            yield "\\ud800"
        """,
    )
    async with executor_of(runnable(folder)) as executor:
        events = await events_of(executor, call_of("values"))
        chunks = [event for event in events if isinstance(event, Chunk)]
        assert [(chunk.value, chunk.text) for chunk in chunks] == [
            (b'{"when":"2024-01-02"}', "{'when': datetime.date(2024, 1, 2)}"),
            (b'{"text":"o"}', "text='o'"),
            (b"null", "nan"),
            (b'"?"', "?"),
        ]


FAULTS: dict[str, tuple[str, bytes, type[SwarmError], str]] = {
    "raises": (
        "async def handle(input):\n    raise ValueError('no ' + input.text)",
        b'{"text":"x"}',
        HandlerFailed,
        "ValueError: no x",
    ),
    "raises in a thread": (
        "def handle(input):\n    raise StopIteration('s')",
        b"{}",
        HandlerFailed,
        "StopIteration: s",
    ),
    "exits politely": (
        "import sys\nasync def handle(input):\n    sys.exit(3)",
        b"{}",
        HandlerFailed,
        "SystemExit: 3",
    ),
    "runs out of memory": (
        "async def handle(input):\n    raise MemoryError",
        b"{}",
        ResourceExceeded,
        "memory",
    ),
    "returns nothing": ("async def handle(input):\n    pass", b"{}", BadOutput, "NoneType"),
    "returns a wrong dict": (
        "async def handle(input):\n    return {'text': []}",
        b"{}",
        BadOutput,
        "text:",
    ),
    "is given no json": (ECHO, b"{", InvalidInput, "not JSON"),
    "is given NaN": (ECHO, b'{"n":NaN}', InvalidInput, "not JSON"),
    "is given a wrong type": (ECHO, b'{"n":"x"}', InvalidInput, "n:"),
    "is given an unknown field": (ECHO, b'{"z":1}', InvalidInput, "z:"),
    "fails in a stream": (
        "async def handle(input):\n    yield 1\n    raise KeyError('k')",
        b"{}",
        HandlerFailed,
        "KeyError: 'k'",
    ),
    "has an exception that fails": (
        """
        class E(Exception):
            def __str__(self): raise E
        async def handle(input):
            raise E
        """,
        b"{}",
        HandlerFailed,
        "E",
    ),
}


@pytest.mark.parametrize("isolation", WARM_MODES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_faulty_call_gives_one_typed_error(
    tmp_path: Path, isolation: Isolation, fault: str
) -> None:
    handler, content, kind, words = FAULTS[fault]
    skill = runnable(write_skill(tmp_path / "faulty", handler), isolation=isolation)
    async with executor_of(skill) as executor:
        for _ in range(2):
            with pytest.raises(kind, match=words) as caught:
                await events_of(executor, call_of("faulty", content))
            assert len(caught.value.sentence) <= 300


async def test_validation_detail_says_where_but_not_what(tmp_path: Path) -> None:
    async with executor_of(runnable(write_skill(tmp_path / "echo", ECHO))) as executor:
        with pytest.raises(InvalidInput) as caught:
            await events_of(executor, call_of("echo", b'{"n":"secret","z":[1]}'))
        detail = caught.value.data["detail"]
        assert [fault["loc"] for fault in detail] == [["n"], ["z"]]
        assert "secret" not in json.dumps(detail)


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        ("import os\nasync def handle(input):\n    os._exit(7)", "status 7"),
        ("import os\nasync def handle(input):\n    os.kill(os.getpid(), 9)", "signal 9"),
    ],
)
async def test_a_handler_that_ends_its_process_leaves_the_zygote_alive(
    tmp_path: Path, handler: str, words: str
) -> None:
    folder = write_skill(tmp_path / "ends", handler)
    async with executor_of(runnable(folder)) as executor:
        for _ in range(2):
            with pytest.raises(SandboxLost, match=words):
                await events_of(executor, call_of("ends"))


async def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "ends",
        """
        import os
        async def handle(input):
            if input.n:
                os._exit(7)
            return Output(text=str(os.getpid()))
        """,
    )
    async with executor_of(runnable(folder, isolation=Isolation.WORKER)) as executor:
        first = await run_text(executor, "ends")
        with pytest.raises(SandboxLost):
            await run_text(executor, "ends", n=1)
        assert await run_text(executor, "ends") != first


HANGS = {
    "async": "import asyncio\nasync def handle(input):\n    await asyncio.sleep(3600)",
    "async, spinning": "async def handle(input):\n    while True: pass",
    "async, deaf to cancellation": (
        "import asyncio\nasync def handle(input):\n    while True:\n"
        "        try:\n            await asyncio.sleep(3600)\n"
        "        except asyncio.CancelledError:\n            pass"
    ),
    "plain": "import time\ndef handle(input):\n    time.sleep(3600)",
    "plain, spinning": "def handle(input):\n    while True: pass",
}


@pytest.mark.parametrize("isolation", MODES)
@pytest.mark.parametrize("handler", HANGS.values(), ids=HANGS)
async def test_a_handler_that_hangs_is_stopped_at_the_wall_limit(
    tmp_path: Path, isolation: Isolation, handler: str
) -> None:
    skill = runnable(write_skill(tmp_path / "hangs", handler), isolation=isolation, timeout_ms=150)
    async with executor_of(skill) as executor:
        for _ in range(2):
            with pytest.raises(SkillTimeout):
                await events_of(executor, call_of("hangs"))


async def test_the_callers_deadline_may_be_shorter_than_the_skills(tmp_path: Path) -> None:
    folder = write_skill(tmp_path / "hangs", HANGS["async"])
    async with executor_of(runnable(folder)) as executor:
        with contextlib.suppress(SkillTimeout):
            await events_of(executor, call_of("hangs", deadline_ms=1000))
        with pytest.raises(SkillTimeout, match="longer than 0"):
            await events_of(executor, call_of("hangs", deadline_ms=200))


async def test_closing_the_iterator_cancels_and_runs_the_handlers_finally(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    folder = write_skill(
        tmp_path / "stream",
        f"""
        import asyncio, pathlib
        async def handle(input):
            try:
                yield "first"
                await asyncio.sleep(3600)
            finally:
                pathlib.Path({str(sign)!r}).write_text("tidied")
        """,
    )
    async with executor_of(runnable(folder)) as executor:
        async with contextlib.aclosing(executor.run(call_of("stream"))) as events:
            async for event in events:
                if isinstance(event, Chunk):
                    break
        # The single place is free again only after the handler has gone.
        async with contextlib.aclosing(executor.run(call_of("stream"))) as events:
            async for event in events:
                if isinstance(event, Started):
                    break
        assert sign.read_text() == "tidied"


@pytest.mark.parametrize("isolation", WARM_MODES)
async def test_cancelling_the_reader_cancels_the_call(tmp_path: Path, isolation: Isolation) -> None:
    folder = write_skill(
        tmp_path / "slow",
        """
        import asyncio
        async def handle(input):
            if input.n:
                await asyncio.sleep(3600)
            return Output(text="next")
        """,
    )
    async with executor_of(runnable(folder, isolation=isolation)) as executor:
        started = asyncio.Event()

        async def read() -> None:
            async for _ in executor.run(call_of("slow", b'{"n":1}')):
                started.set()

        reader = asyncio.ensure_future(read())
        await started.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert await run_text(executor, "slow") == {"text": "next"}


async def test_forked_calls_start_from_the_same_state(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "counter",
        """
        import random
        seen = []
        async def handle(input):
            seen.append(random.random())
            return Output(text=f"{len(seen)} {seen[-1]}")
        """,
    )
    async with executor_of(runnable(folder)) as executor:
        texts = [(await run_text(executor, "counter"))["text"] for _ in range(3)]
        assert [text.split()[0] for text in texts] == ["1", "1", "1"]
        assert len(set(texts)) == 3, "every call draws its own random numbers"


async def test_a_worker_keeps_its_state_within_one_class_of_callers(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "counter",
        """
        seen = []
        async def handle(input):
            seen.append(1)
            return Output(text=str(len(seen)))
        """,
    )
    async with executor_of(runnable(folder, isolation=Isolation.WORKER)) as executor:

        async def count(caller: CallerClass) -> str:
            text: str = output_of(await events_of(executor, call_of("counter", caller=caller)))[
                "text"
            ]
            return text

        assert [await count(CallerClass.OWNER) for _ in range(3)] == ["1", "2", "3"]
        assert await count(CallerClass.PUBLIC) == "1"
        assert await count(CallerClass.SPACE) == "1"
        assert await count(CallerClass.OWNER) == "4"


async def test_leftover_processes_and_files_are_gone_before_the_next_call(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "leaves",
        """
        import os, pathlib, subprocess
        async def handle(input):
            if input.n:
                orphan = subprocess.Popen(
                    ["/bin/sh", "-c", "sleep 3600 & echo $!; exec >&-; wait"],
                    stdout=subprocess.PIPE, start_new_session=True)
                pid = orphan.stdout.readline().decode().strip()
                locked = pathlib.Path("locked"); locked.mkdir(); (locked / "f").write_text("x")
                locked.chmod(0)
                return Output(text=f"{pid} {os.getcwd()}")
            return Output(text=" ".join(sorted(p.name for p in pathlib.Path("..").iterdir())))
        """,
    )
    async with executor_of(runnable(folder)) as executor:
        pid, directory = (await run_text(executor, "leaves", n=1))["text"].split()
        assert not Path(f"/proc/{pid}").exists()
        assert not Path(directory).exists()
        assert len((await run_text(executor, "leaves"))["text"].split()) == 1


async def test_artifacts_come_back_with_their_content(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "files",
        """
        import os, pathlib
        async def handle(input):
            out = pathlib.Path(os.environ["SWARM_OUT"])
            (out / "big.bin").write_bytes(bytes(3_000_000))
            (out / "note.txt").write_text("hello")
            (out / "link").symlink_to("/etc/passwd")
            return Output(text="done")
        """,
    )
    for isolation in WARM_MODES:
        async with executor_of(runnable(folder, isolation=isolation)) as executor:
            for _ in range(2):
                events = await events_of(executor, call_of("files"))
                big, note = (event for event in events if isinstance(event, Artifact))
                assert (big.name, len(big.content)) == ("big.bin", 3_000_000)
                assert big.sha256 == hashlib.sha256(bytes(3_000_000)).digest()
                assert (note.name, note.media_type, note.content) == (
                    "note.txt", "text/plain", b"hello",
                )  # fmt: skip


async def test_a_badly_named_artifact_is_refused(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "files",
        """
        import os, pathlib
        async def handle(input):
            pathlib.Path(os.environ["SWARM_OUT"], "a b").write_text("x")
            return Output(text="done")
        """,
    )
    async with executor_of(runnable(folder)) as executor:
        call = call_of("files")
        with pytest.raises(BadOutput):
            await events_of(executor, call)


async def test_the_context_tells_and_reports(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "context",
        """
        from swarmharness.skill import context
        def handle(input):
            c = context()
            c.progress(0.25, "a quarter")
            c.progress(0.3, "too soon")
            c.progress(1, "all")
            return Output(text=f"{c.task_id} {c.caller} {0 < c.seconds_left <= 30} {c.out.name}")
        """,
    )
    async with executor_of(runnable(folder)) as executor:
        events = await events_of(executor, call_of("context"))
        assert [event for event in events if isinstance(event, Progress)] == [
            Progress(250, "a quarter"),
            Progress(1000, "all"),
        ]
        assert output_of(events) == {"text": "task-1 owner True out"}


@pytest.mark.parametrize("isolation", WARM_MODES)
async def test_long_inputs_and_outputs_travel(tmp_path: Path, isolation: Isolation) -> None:
    folder = write_skill(
        tmp_path / "long",
        """
        async def handle(input):
            return Output(text=input.text * 3)
        """,
    )
    async with executor_of(runnable(folder, isolation=isolation)) as executor:
        text = "x" * 4_000_000
        assert len((await run_text(executor, "long", text=text))["text"]) == 3 * len(text)


async def test_too_much_input_or_output_is_refused(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "long",
        """
        async def handle(input):
            if input.n:
                while True:
                    yield "x" * 1000
            yield input.text
        """,
    )
    skill = runnable(folder, max_input_bytes=20, max_output_bytes=100_000)
    async with executor_of(skill) as executor:
        await events_of(executor, call_of("long", b'{"text":"123456789"}'))
        with pytest.raises(InputTooLarge):
            await events_of(executor, call_of("long", b'{"text":"1234567890"}'))
        with pytest.raises(OutputTooLarge):
            await events_of(executor, call_of("long", b'{"n":1}'))
        await events_of(executor, call_of("long"))


@pytest.mark.parametrize("isolation", WARM_MODES)
async def test_floods_of_stdout_and_stderr_do_no_harm(tmp_path: Path, isolation: Isolation) -> None:
    folder = write_skill(
        tmp_path / "floods",
        """
        import os, sys
        async def handle(input):
            for _ in range(200):
                os.write(1, bytes(100_000))
                sys.stderr.write("e" * 1000)
            return Output(text="done")
        """,
    )
    async with executor_of(runnable(folder, isolation=isolation)) as executor:
        assert await run_text(executor, "floods") == {"text": "done"}


async def test_a_full_line_is_overloaded_and_the_others_are_served(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "slow",
        """
        import asyncio
        async def handle(input):
            await asyncio.sleep(0.05)
            return Output(text="done")
        """,
    )
    for isolation in MODES:
        skill = runnable(folder, isolation=isolation, concurrency=2, queue=2)
        async with executor_of(skill) as executor:
            results = await asyncio.gather(
                *(run_text(executor, "slow") for _ in range(6)), return_exceptions=True
            )
            assert sum(isinstance(result, Overloaded) for result in results) == 2
            assert results.count({"text": "done"}) == 4


async def test_waiting_in_line_ends_at_the_deadline(tmp_path: Path) -> None:
    folder = write_skill(tmp_path / "hangs", HANGS["async"])
    async with executor_of(runnable(folder)) as executor:
        first = executor.run(call_of("hangs"))
        assert await anext(first) == Started()
        with pytest.raises(Overloaded, match="became free"):
            await events_of(executor, call_of("hangs", deadline_ms=300))
        await first.aclose()


async def test_an_import_that_starts_threads_moves_the_skill_to_a_worker(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "threads",
        """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        async def handle(input):
            return Output(text=str(threading.active_count()))
        """,
    )
    async with executor_of(runnable(folder)) as executor:
        assert (await run_text(executor, "threads"))["text"] == "2"
        assert len(executor.warnings) == 1
        assert "isolation = worker" in executor.warnings[0]


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        ("raise KeyError('config')", "config"),
        ("this is no python", "handler.py"),
        ("import os\nos._exit(4)", "ended its process"),
        ("x = 1", "handle"),
    ],
)
async def test_a_skill_that_cannot_be_imported_is_broken_at_once_the_second_time(
    tmp_path: Path, handler: str, words: str
) -> None:
    skill = runnable(write_skill(tmp_path / "broken", handler))
    async with executor_of(skill) as executor:
        for _ in range(2):
            with pytest.raises(SkillBroken, match=words):
                await events_of(executor, call_of("broken"))
        with pytest.raises(SkillBroken, match=words):
            await executor.describe(skill)


async def test_describe_returns_the_guests_json(tmp_path: Path) -> None:
    skill = runnable(write_skill(tmp_path / "echo", ECHO))
    async with executor_of() as executor:
        description = json.loads(await executor.describe(skill))
        assert description["kind"] == "plain"
        assert set(description["input_schema"]["properties"]) == {"text", "n"}


async def test_a_new_generation_serves_while_the_old_one_finishes(tmp_path: Path) -> None:
    old = write_skill(
        tmp_path / "1" / "grow",
        """
        async def handle(input):
            for _ in range(5):
                yield "old"
        """,
    )
    new = write_skill(tmp_path / "2" / "grow", "async def handle(input):\n    yield 'new'")
    async with executor_of(runnable(old)) as executor:
        running = executor.run(call_of("grow"))
        assert isinstance(await anext(running), Started)
        await executor.add(runnable(new))
        fresh = await events_of(executor, call_of("grow"))
        assert [e.text for e in fresh if isinstance(e, Chunk)] == ["new"]
        rest = [event async for event in running]
        assert [e.text for e in rest if isinstance(e, Chunk)] == ["old"] * 5
        await executor.remove("grow", drain=True)
        with pytest.raises(UnknownSkill):
            await events_of(executor, call_of("grow"))


async def test_close_lets_calls_finish_within_the_drain_time(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "slow",
        """
        import asyncio
        async def handle(input):
            yield 1
            await asyncio.sleep(0.1)
            yield 2
        """,
    )
    async with executor_of(runnable(folder)) as executor:
        running = executor.run(call_of("slow"))
        assert isinstance(await anext(running), Started)
        closing = asyncio.ensure_future(executor.close(drain_ms=20_000))
        assert isinstance([event async for event in running][-1], Finished)
        await closing


async def test_close_ends_a_call_that_takes_too_long(tmp_path: Path) -> None:
    folder = write_skill(tmp_path / "hangs", HANGS["plain, spinning"])
    async with executor_of(runnable(folder)) as executor:
        running = executor.run(call_of("hangs"))
        assert isinstance(await anext(running), Started)
        await executor.close(drain_ms=0)
        with pytest.raises(SandboxLost):
            await anext(running)


async def test_a_spare_takes_over_from_a_sandbox_that_was_killed(tmp_path: Path) -> None:
    folder = write_skill(
        tmp_path / "evil",
        """
        import asyncio, os
        async def handle(input):
            if input.n:
                os.kill(os.getppid(), 9)
                await asyncio.sleep(3600)
            return Output(text="fine")
        """,
    )
    async with executor_of(runnable(folder)) as executor:
        for n in (0, 0, 1, 0, 1, 0):
            if n:
                with pytest.raises(SandboxLost):
                    await run_text(executor, "evil", n=n)
            else:
                assert await run_text(executor, "evil") == {"text": "fine"}


def test_the_fault_table_has_every_error_of_a_handler() -> None:
    kinds: set[Callable[..., SwarmError]] = {kind for _, _, kind, _ in FAULTS.values()}
    assert kinds == {HandlerFailed, BadOutput, InvalidInput, ResourceExceeded}


# Whoever is root wipes anything, so the import makes the zygote say that it could not.
UNCLEAN = """
import sys, time
directories = sys.modules["_swarm_guest.zygote"].CallDirectory
wipe = directories.wipe
directories.wipe = lambda self: wipe(self) and self.path.name == "rehearsal"
def handle(input):
    while time.process_time() < 0.2:
        pass
    return Output(text="done")
"""


async def test_a_call_that_costs_its_sandbox_is_metered_all_the_same(tmp_path: Path) -> None:
    folder = write_skill(tmp_path / "messy", UNCLEAN)
    async with executor_of(runnable(folder)) as executor:
        finished = (await events_of(executor, call_of("messy")))[-1]
        assert isinstance(finished, Finished)
        assert finished.meters.cpu_ms >= 150


UNREAPED = """
import os, signal, time
async def handle(input):
    if input.text == "big":
        held = bytearray(96 << 20)
        time.sleep(0.3)
        return Output(text=str(len(held)))
    if input.text == "small":
        return Output(text="")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if os.fork() == 0:
        while time.process_time() < 0.6:
            pass
        os._exit(0)
    try:
        os.wait()
    except ChildProcessError:
        pass
    return Output(text="")
"""


async def meters_of(executor: SandboxExecutor, text: str) -> Meters:
    content = json.dumps({"text": text}).encode()
    finished = (await events_of(executor, call_of("unreaped", content)))[-1]
    assert isinstance(finished, Finished)
    return finished.meters


@pytest.mark.parametrize("isolation", WARM_MODES)
async def test_the_most_memory_is_that_of_the_call(tmp_path: Path, isolation: Isolation) -> None:
    folder = write_skill(tmp_path / "unreaped", UNREAPED)
    async with executor_of(runnable(folder, isolation=isolation)) as executor:
        assert (await meters_of(executor, "big")).max_rss_kib > 96 * 1024
        assert (await meters_of(executor, "small")).max_rss_kib < 96 * 1024


async def test_the_time_of_children_that_nobody_waits_for_is_seen_by_the_watchdog(
    tmp_path: Path,
) -> None:
    folder = write_skill(tmp_path / "unreaped", UNREAPED)
    async with executor_of(runnable(folder)) as executor:
        assert (await meters_of(executor, "fork")).cpu_ms >= 200


async def test_a_sandbox_that_was_ended_before_its_start_opens_nothing(tmp_path: Path) -> None:
    def never(*_arguments: object, **_named: object) -> NoReturn:
        pytest.fail("nothing may be started")

    sandbox = Sandbox(
        runnable(write_skill(tmp_path / "late", "async def handle(input): ...")),
        BootMode.FORK,
        CallerClass.PUBLIC,
        places=1,
        confined=False,
        on_change=lambda _sandbox: None,
        spawn=asyncio.get_running_loop().create_task,
        serve_network=never,
    )
    sandbox.destroy()
    with pytest.raises(SandboxLost, match="before its start"):
        await sandbox.start(never)
    await sandbox.wait_gone()
