"""Tasks between nodes, with functions for skills: what travels, what moves, what is refused."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from node.memory_swarm import MIB, FakeExecutor, MemoryNode, MemorySwarm, echo
from swarmharness.kernel.codec import encode
from swarmharness.kernel.errors import Blame, MalformedMessage, SwarmError
from swarmharness.network.errors import DeadlineExceeded, VersionMismatch
from swarmharness.network.io.incoming_call import IncomingCall
from swarmharness.network.rpc.messages import BulkTicket
from swarmharness.node.content import FETCH_MS, INLINE_LIMIT
from swarmharness.node.errors import ShuttingDown
from swarmharness.node.submission import EXPIRY_S
from swarmharness.node.workplace import HELD_SHARE_BYTES
from swarmharness.skills.call import (
    Artifact,
    CallerClass,
    CallEvent,
    Chunk,
    Finished,
    Meters,
    Progress,
    SkillCall,
    Started,
)
from swarmharness.skills.errors import (
    HandlerFailed,
    InputTooLarge,
    InvalidInput,
    Overloaded,
    SandboxLost,
    SkillBroken,
    UnknownSkill,
)
from swarmharness.skills.messages import DESCRIBE_METHOD, WATCH_METHOD, OffersMessage, SkillOffer
from swarmharness.skills.sandbox.transcript import MAX_ARTIFACT_BYTES, MAX_ARTIFACTS
from swarmharness.tasks.errors import (
    AttemptsExhausted,
    NobodyOffers,
    TaskExpired,
    TaskRepeated,
    TooManyTasks,
)
from swarmharness.tasks.messages import (
    RUN_METHOD,
    VERSION,
    AcceptedMessage,
    ArtifactMessage,
    ChunkMessage,
    Content,
    OfferMessage,
    ResultMessage,
    UsageMessage,
)
from swarmharness.tasks.task import MAX_DEADLINE_MS, TaskRequest
from swarmharness.tasks.update import (
    TaskAccepted,
    TaskArtifact,
    TaskChunk,
    TaskCompleted,
    TaskMoved,
    TaskOffered,
    TaskProgress,
)

pytestmark = pytest.mark.virtual

HOUR_S = 3600


async def story(call: SkillCall) -> AsyncIterator[CallEvent]:
    yield Started()
    yield Progress(500, "half")
    yield Chunk(0, b'"one"', "one")  # type: ignore[arg-type]
    yield Chunk(1, b'"two"', "two")  # type: ignore[arg-type]
    yield Artifact("a.txt", "text/plain", hashlib.sha256(b"file").digest(), b"file")
    yield Finished(None, Meters(chunks=2))


async def asleep(call: SkillCall) -> AsyncIterator[CallEvent]:
    yield Started()
    await asyncio.sleep(HOUR_S)
    yield Finished(b"null", Meters())  # type: ignore[arg-type]


def fails(error: SwarmError, *, after_start: bool = True) -> Any:
    async def behaviour(call: SkillCall) -> AsyncIterator[CallEvent]:
        if after_start:
            yield Started()
        raise error

    return behaviour


async def test_a_peer_runs_a_task_and_tells_each_update():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        b = await swarm.node("b", skills={"story": story})
        await a.meet(b)
        updates = await a.updates("story")
        assert updates[:-1] == [
            TaskOffered(b.node_id, 1),
            TaskAccepted(b.node_id),
            TaskProgress(500, "half"),
            TaskChunk(0, b'"one"', "one"),
            TaskChunk(1, b'"two"', "two"),
            TaskArtifact("a.txt", "text/plain", hashlib.sha256(b"file").digest(), b"file"),
        ]
        completed = updates[-1]
        assert isinstance(completed, TaskCompleted)
        assert (completed.node, completed.output, completed.usage.chunks) == (b.node_id, None, 2)
        assert (completed.attempts, completed.failures) == (1, 0)
        assert (a.submissions.completed, b.workplace.completed) == (1, 1)


async def test_our_own_skills_tell_the_same_updates():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a", skills={"story": story})
        kinds = [type(update) for update in await a.updates("story")]
        assert kinds[:2] == [TaskOffered, TaskAccepted]
        assert kinds[-2:] == [TaskArtifact, TaskCompleted]


async def test_owner_and_peers_are_different_callers():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"echo": echo})
        await a.meet(b)
        await a.result("echo")
        await b.result("echo", on=b.node_id)
        assert [c.caller for c in b.executor.calls] == [CallerClass.PUBLIC, CallerClass.OWNER]


@pytest.mark.parametrize("size", [INLINE_LIMIT - 2, INLINE_LIMIT + 1, 3 * MIB])
async def test_input_and_output_of_any_size_arrive_whole(size: int):
    value = b'"' + b"x" * (size - 2) + b'"'
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"echo": echo})
        await a.meet(b)
        assert (await a.result("echo", value)).output == value
        assert b.executor.calls[0].input == value


async def test_large_chunks_and_files_arrive_whole():
    value, text = b'"' + b"y" * MIB + b'"', "y" * MIB

    async def large(call: SkillCall) -> AsyncIterator[CallEvent]:
        yield Started()
        yield Chunk(0, value, text)  # type: ignore[arg-type]
        yield Artifact("big", "application/x", hashlib.sha256(value).digest(), value)
        yield Finished(None, Meters())

    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"large": large})
        await a.meet(b)
        chunk, artifact = (await a.updates("large"))[2:4]
        assert isinstance(chunk, TaskChunk)
        assert chunk.value == value
        assert isinstance(artifact, TaskArtifact)
        assert artifact.content == value


async def test_input_over_the_skills_limit_is_refused_before_it_is_sent():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b")
        b.serve("echo", echo, max_input=MIB)
        await a.meet(b)
        with pytest.raises(InputTooLarge):
            await a.result("echo", b" " * (2 * MIB))
        assert not b.executor.calls


async def test_a_failed_executor_is_replaced_and_its_chunks_are_void():
    async def breaks(call: SkillCall) -> AsyncIterator[CallEvent]:
        yield Started()
        yield Chunk(0, b'"void"', "void")  # type: ignore[arg-type]
        raise SandboxLost("The sandbox is gone.")

    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        b = await swarm.node("b", skills={"story": breaks})
        c = await swarm.node("c", skills={"story": breaks})
        await a.meet(b, c)
        ran: list[FakeExecutor] = []

        def first_breaks(executor: FakeExecutor) -> Any:
            def choose(call: SkillCall) -> AsyncIterator[CallEvent]:
                ran.append(executor)
                return breaks(call) if len(ran) == 1 else story(call)

            return choose

        for node in (b, c):  # whichever comes second is the good one
            node.executor.behaviours["story"] = first_breaks(node.executor)
        updates = await a.updates("story")
        moved = [update for update in updates if isinstance(update, TaskMoved)]
        assert len(moved) == 1
        assert moved[0].code == "skills.sandbox_lost"
        after = updates[updates.index(moved[0]) :]
        assert [u.text for u in after if isinstance(u, TaskChunk)] == ["one", "two"]
        completed = updates[-1]
        assert isinstance(completed, TaskCompleted)
        assert (completed.attempts, completed.failures) == (2, 1)
        assert completed.node != moved[0].node


async def test_a_crashed_executor_is_replaced():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        b = await swarm.node("b", skills={"job": asleep})
        c = await swarm.node("c", skills={"job": asleep})
        await a.meet(b, c)
        updates = a.submissions.run(TaskRequest(skill="job", input=b"{}", deadline_ms=7_200_000))
        assert isinstance(await anext(updates), TaskOffered)
        accepted = await anext(updates)
        assert isinstance(accepted, TaskAccepted)
        victim, other = (b, c) if accepted.node == b.node_id else (c, b)
        swarm.crash(victim)
        rest = [update async for update in updates]
        assert [type(update) for update in rest] == [
            TaskMoved,
            TaskOffered,
            TaskAccepted,
            TaskCompleted,
        ]
        assert rest[-1].node == other.node_id
        assert rest[-1].failures == 1
        await asyncio.sleep(0)
        assert victim.node_id not in a.peers.connected
        swarm.nodes.remove(victim)
        await victim.peers.close(drain_ms=0)


async def test_without_retry_the_first_failure_is_the_answer():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        for name in "bc":
            node = await swarm.node(name, skills={"job": fails(SandboxLost("Gone."))})
            await a.meet(node)
        with pytest.raises(SandboxLost):
            await a.result("job", retry=False)
        assert sum(len(node.executor.calls) for node in swarm.nodes) == 1


async def test_errors_of_the_callers_own_are_not_tried_elsewhere():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        for name in "bc":
            node = await swarm.node(name)
            node.serve("job", fails(InvalidInput("No."), after_start=name == "b"))
            await a.meet(node)
        with pytest.raises(InvalidInput) as caught:
            await a.result("job")
        assert caught.value.blame is Blame.CALLER
        assert sum(len(node.executor.calls) for node in swarm.nodes) == 1


async def test_when_everybody_fails_each_reason_is_told():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        for name in "bc":
            await a.meet(await swarm.node(name, skills={"job": fails(SandboxLost("Gone."))}))
        with pytest.raises(AttemptsExhausted) as caught:
            await a.result("job")
        assert [one["code"] for one in caught.value.data["attempts"]] == [SandboxLost.code] * 2
        assert (a.submissions.completed, a.submissions.failed) == (0, 1)


async def test_full_executors_are_waited_for():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b")
        places = asyncio.Semaphore(1)

        async def one_at_a_time(call: SkillCall) -> AsyncIterator[CallEvent]:
            if places.locked():
                raise Overloaded("Full.")
            async with places:
                yield Started()
                await asyncio.sleep(1)
                yield Finished(call.input, Meters())

        b.serve("job", one_at_a_time)
        await a.meet(b)
        results = await asyncio.gather(*(a.result("job") for _ in range(5)))
        assert [result.failures for result in results] == [0] * 5
        assert b.workplace.completed == 5


async def test_full_executors_are_not_waited_for_longer_than_the_deadline():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        b = await swarm.node("b", skills={"job": fails(Overloaded("Full."), after_start=False)})
        await a.meet(b)
        before_us = a.clock.now_us()
        with pytest.raises(TaskExpired):
            await a.result("job", deadline_ms=3_000)
        assert 3_000_000 <= a.clock.now_us() - before_us <= 3_300_000


async def test_the_deadline_ends_a_task_on_its_executor():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"job": asleep})
        await a.meet(b)
        with pytest.raises(TaskExpired):
            await a.result("job", deadline_ms=2_000)
        await b.workplace.gauge.wait_idle()
        assert b.executor.running == 0


async def test_the_longest_deadline_is_possible():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"echo": echo})
        await a.meet(b)
        assert (await a.result("echo", deadline_ms=MAX_DEADLINE_MS)).output == b"{}"


async def test_a_pinned_task_runs_there_or_nowhere():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        b = await swarm.node("b", skills={"echo": echo})
        c = await swarm.node("c", skills={"echo": echo})
        await a.meet(b, c)
        for _ in range(4):
            assert (await a.result("echo", on=c.node_id)).node == c.node_id
        with pytest.raises(NobodyOffers):
            await a.result("echo", on=a.node_id)
        assert not b.executor.calls


async def test_a_skill_that_is_here_but_broken_tells_its_reason():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        a.shelf.broken["job"] = SkillBroken("It cannot be imported.")
        with pytest.raises(SkillBroken):
            await a.result("job")
        with pytest.raises(NobodyOffers):
            await a.result("other")


async def test_leaving_cancels_the_task_on_the_executor():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"job": asleep})
        await a.meet(b)
        updates = a.submissions.run(TaskRequest(skill="job", input=b"{}"))
        await anext(updates)
        await anext(updates)
        assert (b.executor.running, a.submissions.gauge.value) == (1, 1)
        await updates.aclose()
        await b.workplace.gauge.wait_idle()
        assert (b.executor.running, a.submissions.gauge.value) == (0, 0)
        assert a.peers.connected[b.node_id].in_flight == 0


async def test_a_cancelled_submitter_cancels_the_task():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"job": asleep})
        await a.meet(b)
        running = asyncio.create_task(a.result("job"))
        await asyncio.sleep(1)
        assert b.executor.running == 1
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        await b.workplace.gauge.wait_idle()
        assert b.executor.running == 0


async def test_a_draining_node_takes_nothing_new_and_finishes_what_runs():
    async def short(call: SkillCall) -> AsyncIterator[CallEvent]:
        yield Started()
        await asyncio.sleep(5)
        yield Finished(b"1", Meters())  # type: ignore[arg-type]

    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"job": short})
        await a.meet(b)
        running = asyncio.create_task(a.result("job"))
        await asyncio.sleep(1)
        b.workplace.drain()
        b.submissions.drain()
        with pytest.raises(AttemptsExhausted) as caught:
            await a.result("job")
        assert caught.value.data["attempts"][0]["code"] == ShuttingDown.code
        with pytest.raises(ShuttingDown):
            await b.result("job")
        assert (await running).output == b"1"


async def test_open_tasks_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("swarmharness.node.submission.OPEN_TASKS_LIMIT", 1)
    async with MemorySwarm() as swarm:
        a = await swarm.node("a", skills={"job": asleep})
        first = a.submissions.run(TaskRequest(skill="job", input=b"{}"))
        await anext(first)
        with pytest.raises(TooManyTasks):
            await a.result("job")
        await first.aclose()


async def test_an_offer_of_another_version_is_refused_with_both_numbers():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"echo": echo})
        await a.meet(b)
        offer = OfferMessage(VERSION + 1, bytes(16), 1, "echo", Content(inline=b"{}"))
        rpc = a.peers.connected[b.node_id].rpc
        with pytest.raises(VersionMismatch, match=f"{VERSION + 1}.*{VERSION}"):
            async with rpc.stream(RUN_METHOD, encode(offer), timeout_ms=1000) as call:
                await call.result()
        assert not b.executor.calls


async def test_inputs_that_never_come_do_not_take_up_room_for_long():
    """One peer claims sizes and sends nothing: its share is full, another's is not."""
    async with MemorySwarm() as swarm:
        a, b, c = [await swarm.node(name) for name in "abc"]
        b.serve("echo", max_input=HELD_SHARE_BYTES)
        for other in (a, c):
            await other.meet(b)
        size = HELD_SHARE_BYTES // 4
        rpc = a.peers.connected[b.node_id].rpc
        rpc._shelf.serve = silent  # type: ignore[method-assign]

        async def claim(n: int) -> SwarmError:
            content = Content(bulk=BulkTicket(bytes(16), size, bytes(32)))
            body = encode(OfferMessage(VERSION, bytes([n]) * 16, 1, "echo", content))
            with pytest.raises(SwarmError) as caught:
                async with rpc.stream(RUN_METHOD, body, timeout_ms=MAX_DEADLINE_MS) as call:
                    await call.result()
            return caught.value

        before_us = a.clock.now_us()
        claims = [asyncio.ensure_future(claim(n)) for n in range(5)]
        await asyncio.sleep(1)
        assert (await c.result("echo", b'"' + b"x" * MIB + b'"')).node == b.node_id
        names = sorted(type(error).__name__ for error in await asyncio.gather(*claims))
        assert names == [*["DeadlineExceeded"] * 4, "Overloaded"]
        assert a.clock.now_us() - before_us <= 1000 * (FETCH_MS + 1_000)


async def silent(*_: object) -> None:
    await asyncio.Event().wait()


async def test_a_repeated_task_id_is_refused():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"echo": echo})
        await a.meet(b)
        rpc = a.peers.connected[b.node_id].rpc
        body = encode(OfferMessage(1, bytes(16), 1, "echo", Content(inline=b"{}")))
        async with rpc.stream(RUN_METHOD, body, timeout_ms=1000) as call:
            await call.result()
        with pytest.raises(TaskRepeated):
            async with rpc.stream(RUN_METHOD, body, timeout_ms=1000) as call:
                await call.result()
        assert len(b.executor.calls) == 1


async def test_a_task_that_never_started_may_be_offered_again():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        b = await swarm.node("b", skills={"job": fails(Overloaded("Full."), after_start=False)})
        await a.meet(b)
        rpc = a.peers.connected[b.node_id].rpc
        body = encode(OfferMessage(1, bytes(16), 1, "job", Content(inline=b"{}")))
        for _ in range(2):
            with pytest.raises(Overloaded):
                async with rpc.stream(RUN_METHOD, body, timeout_ms=1000) as call:
                    await call.result()


# What is private stays private.


async def test_an_unpublished_skill_runs_for_the_owner_only():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b")
        b.serve("secret", echo, publish=False)
        await a.meet(b)
        assert not a.peers.connected[b.node_id].offers
        assert (await b.result("secret")).node == b.node_id
        rpc = a.peers.connected[b.node_id].rpc
        body = encode(OfferMessage(1, bytes(16), 1, "secret", Content(inline=b"{}")))
        with pytest.raises(UnknownSkill) as hidden:
            async with rpc.stream(RUN_METHOD, body, timeout_ms=1000) as call:
                await call.result()
        with pytest.raises(UnknownSkill):
            await rpc.call(DESCRIBE_METHOD, b"secret", timeout_ms=1000)
        with pytest.raises(UnknownSkill) as absent:
            await rpc.call(DESCRIBE_METHOD, b"absent", timeout_ms=1000)
        assert hidden.value.sentence.replace("secret", "absent") == absent.value.sentence
        assert len(b.executor.calls) == 1


async def test_a_peer_cannot_have_a_task_run_without_taking_its_updates():
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"echo": echo})
        await a.meet(b)
        body = encode(OfferMessage(1, bytes(16), 1, "echo", Content(inline=b"{}")))
        with pytest.raises(MalformedMessage):
            await a.peers.connected[b.node_id].rpc.call(RUN_METHOD, body, timeout_ms=1000)
        assert not b.executor.calls


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        encode(OfferMessage(1, bytes(15), 1, "echo", Content(inline=b"{}"))),
        encode(OfferMessage(1, bytes(16), 1, "echo", Content())),
        encode(
            OfferMessage(
                1, bytes(16), 1, "echo", Content(b"{}", BulkTicket(bytes(16), 1, bytes(32)))
            )
        ),
    ],
)
async def test_garbage_from_a_submitter_is_one_typed_refusal(body: bytes):
    async with MemorySwarm() as swarm:
        a, b = await swarm.node("a"), await swarm.node("b", skills={"echo": echo})
        await a.meet(b)
        rpc = a.peers.connected[b.node_id].rpc
        with pytest.raises(MalformedMessage):
            async with rpc.stream(RUN_METHOD, body, timeout_ms=1000) as call:
                await call.result()
        assert (await a.result("echo")).output == b"{}", "it goes on serving"


# Executors that break the rules.

ACCEPTED = encode(AcceptedMessage())
RESULT = encode(ResultMessage(Content(inline=b'"false"'), UsageMessage()))


async def result_at_once(call: IncomingCall) -> bytes:
    return RESULT


async def accept_twice(call: IncomingCall) -> bytes:
    await call.send(ACCEPTED)
    await call.send(ACCEPTED)
    return RESULT


async def chunk_first(call: IncomingCall) -> bytes:
    await call.send(encode(ChunkMessage(0, Content(inline=b'"false"'), None)))
    await call.send(ACCEPTED)
    return RESULT


async def garbage_item(call: IncomingCall) -> bytes:
    await call.send(ACCEPTED)
    await call.send(b"\xff\x00garbage")
    return RESULT


async def garbage_result(call: IncomingCall) -> bytes:
    await call.send(ACCEPTED)
    return b"\xff\x00garbage"


async def empty_content(call: IncomingCall) -> bytes:
    await call.send(ACCEPTED)
    return encode(ResultMessage(Content(), UsageMessage()))


async def false_ticket(call: IncomingCall) -> bytes:
    await call.send(ACCEPTED)
    ticket = BulkTicket(bytes(16), 5, bytes(32))
    return encode(ResultMessage(Content(bulk=ticket), UsageMessage()))


async def endless_ticket(call: IncomingCall) -> bytes:
    await call.send(ACCEPTED)
    ticket = BulkTicket(bytes(16), 2**50, bytes(32))
    return encode(ResultMessage(Content(bulk=ticket), UsageMessage()))


async def false_artifact(call: IncomingCall) -> bytes:
    await call.send(ACCEPTED)
    await call.send(encode(ArtifactMessage("f", "text/plain", bytes(32), Content(inline=b"x"))))
    return RESULT


async def early_deadline(call: IncomingCall) -> bytes:
    await call.send(ACCEPTED)
    raise DeadlineExceeded("Time is over.")


async def text_not_utf8(call: IncomingCall) -> bytes:
    await call.send(ACCEPTED)
    await call.send(encode(ChunkMessage(0, Content(inline=b'"\xff\xfe"'), None)))
    return RESULT


async def value_not_json(call: IncomingCall) -> bytes:
    await call.send(ACCEPTED)
    await call.send(encode(ChunkMessage(0, Content(inline=b'"}{"forged":'), "text")))
    return RESULT


async def output_not_json(call: IncomingCall) -> bytes:
    await call.send(ACCEPTED)
    return encode(ResultMessage(Content(inline=b"1, 2"), UsageMessage()))


def chunks_numbered(*numbers: int) -> Any:
    async def run(call: IncomingCall) -> bytes:
        await call.send(ACCEPTED)
        for n in numbers:
            await call.send(encode(ChunkMessage(n, Content(inline=b"1"), None)))
        return encode(ResultMessage(None, UsageMessage()))

    return run


def artifacts(*named: tuple[str, int]) -> Any:
    """Names and sizes; what is over the limit is promised only, and must not be fetched."""

    async def run(call: IncomingCall) -> bytes:
        await call.send(ACCEPTED)
        for name, size in named:
            content = Content(inline=bytes(size))
            if size > INLINE_LIMIT:
                content = Content(bulk=await call.connection.offer_bulk(bytes(size), ttl_ms=1000))
            sha256 = hashlib.sha256(bytes(size)).digest()
            await call.send(encode(ArtifactMessage(name, "text/plain", sha256, content)))
        return RESULT

    return run


HOSTILE: list[Callable[..., Any]] = [
    result_at_once,
    accept_twice,
    chunk_first,
    garbage_item,
    garbage_result,
    empty_content,
    false_ticket,
    endless_ticket,
    false_artifact,
    early_deadline,
    text_not_utf8,
    value_not_json,
    output_not_json,
    chunks_numbered(1),
    chunks_numbered(0, 0),
    chunks_numbered(0, 2),
    artifacts(("f", 1), ("f", 1)),
    artifacts(*((f"f{n}", 0) for n in range(MAX_ARTIFACTS + 1))),
    artifacts(("f", MAX_ARTIFACT_BYTES), ("g", 1)),
]


def offer_of(name: str) -> SkillOffer:
    return SkillOffer(name, "1", bytes(32), "", "plain", 1)


async def liar(swarm: MemorySwarm, name: str, run: Callable[..., Any]) -> MemoryNode:
    """Offers `job` and runs it in its own way."""

    async def watch(call: IncomingCall) -> bytes:
        await call.send(encode(OffersMessage(1, "1", (offer_of("job"),))))
        await asyncio.Event().wait()
        return b""

    return await swarm.node(name, methods={RUN_METHOD: run, WATCH_METHOD: watch})


@pytest.mark.parametrize("run", HOSTILE)
async def test_a_lying_executor_costs_one_attempt(run: Callable[..., Any]):
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        await a.meet(await liar(swarm, "b", run))
        with pytest.raises(SwarmError) as caught:
            await a.result("job")
        assert isinstance(caught.value, AttemptsExhausted)
        assert len(caught.value.data["attempts"]) == 1
        assert a.peers.connected[swarm.nodes[1].node_id].in_flight == 0


@pytest.mark.parametrize("run", HOSTILE)
async def test_a_task_moves_on_from_a_lying_executor(run: Callable[..., Any]):
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        bad = await liar(swarm, "b", run)
        await a.meet(bad)
        updates = a.submissions.run(TaskRequest(skill="job", input=b"{}"))
        seen = [await anext(updates)]
        good = await swarm.node("c", skills={"job": echo})
        await a.meet(good)
        seen += [update async for update in updates]
        moved = next(place for place, update in enumerate(seen) if isinstance(update, TaskMoved))
        assert seen[moved].node == bad.node_id
        assert isinstance(seen[-1], TaskCompleted)
        assert (seen[-1].node, seen[-1].output) == (good.node_id, b"{}")
        assert not [u for u in seen[moved:] if isinstance(u, TaskChunk)]


async def test_bulk_that_never_comes_ends_with_the_deadline(monkeypatch: pytest.MonkeyPatch):
    async with MemorySwarm() as swarm:

        async def stalls(call: IncomingCall) -> bytes:
            await call.send(ACCEPTED)
            ticket = await call.connection.offer_bulk(b"x" * MIB, ttl_ms=600_000)
            swarm.network.partition("b", "a")
            return encode(ResultMessage(Content(bulk=ticket), UsageMessage()))

        a = await swarm.node("a")
        await a.meet(await liar(swarm, "b", stalls))
        before_us = a.clock.now_us()
        with pytest.raises((TaskExpired, AttemptsExhausted)):
            await a.result("job", deadline_ms=4_000)
        assert a.clock.now_us() - before_us < 10_000_000


async def test_a_node_that_failed_comes_last_for_a_while():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        bad = await swarm.node("b", skills={"job": fails(SandboxLost("Gone."))})
        good = await swarm.node("c", skills={"job": echo})
        await a.meet(bad)
        with pytest.raises(AttemptsExhausted):
            await a.result("job")
        await a.meet(good)
        for _ in range(8):
            assert (await a.result("job")).node == good.node_id
        assert len(bad.executor.calls) == 1
        await asyncio.sleep(31)
        assert a.peers.connected[bad.node_id].recent_failures == 0


async def test_as_many_artifacts_as_an_honest_executor_may_send_arrive():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        run = artifacts(*((f"f{n}", n) for n in range(MAX_ARTIFACTS)))
        await a.meet(await liar(swarm, "b", run))
        updates = await a.updates("job")
        assert len([u for u in updates if isinstance(u, TaskArtifact)]) == MAX_ARTIFACTS


async def test_a_node_that_swallows_tasks_is_not_asked_again_at_once():
    async def swallows(call: IncomingCall) -> bytes:
        await call.send(ACCEPTED)
        await asyncio.Event().wait()
        return RESULT

    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        hole = await liar(swarm, "b", swallows)
        await a.meet(hole)
        with pytest.raises(TaskExpired):
            await a.result("job", deadline_ms=1_000)
        good = await swarm.node("c", skills={"job": echo})
        await a.meet(good)
        for _ in range(8):
            assert (await a.result("job", deadline_ms=1_000)).node == good.node_id
        assert a.peers.connected[hole.node_id].in_flight == 0
        assert a.peers.connected[hole.node_id].recent_failures == 1
        await asyncio.sleep(EXPIRY_S)
        assert a.peers.connected[hole.node_id].recent_failures == 0


async def test_a_handlers_error_reaches_the_submitter_as_it_was():
    async with MemorySwarm() as swarm:
        a = await swarm.node("a")
        error = HandlerFailed("ValueError: no", data={"message": "no"})
        await a.meet(await swarm.node("b", skills={"job": fails(error)}))
        with pytest.raises(HandlerFailed) as caught:
            await a.result("job")
        assert caught.value.sentence == "ValueError: no"
        assert caught.value.data == {"message": "no"}
