"""The nodes of the benchmark: an executor's process, a submitter's, and a submitter in here.

The submitter inside this process is driven without any client, which leaves the node's own path;
the other one is asked through its control API, as a program would ask it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from bench.machine import cpu_seconds, cpu_seconds_below, descendants, resident_bytes
from bench.rows import Figure
from bench.sampling import Sampler, percentile, repeating
from bench.scale import Scale
from bench.skills import FORKED, INPUT, STREAM, WARM
from swarmharness.app.demo.cluster import Cluster, NodeProcess
from swarmharness.kernel.ids import NodeId, parse_node_id
from swarmharness.network.address import parse_node_address
from swarmharness.node.config import NodeConfig
from swarmharness.node.home import Home
from swarmharness.node.node import Node
from swarmharness.sdk.control_client import ControlClient
from swarmharness.tasks.task import TaskRequest
from swarmharness.tasks.update import TaskChunk

SAMPLED = ("task_warm", "task_control_api", "task_zygote")
NAMES = (*SAMPLED, "stream_chunks", "task_rate")
IN_FLIGHT = 64
INSIDE_TASKS = 448  # less than half of what one worker serves
SETTLE_S = 1.0  # for a node that has just started to come to rest


@asynccontextmanager
async def submitter(home: Path, executor: NodeProcess) -> AsyncIterator[Node]:
    """A node in this process, connected with the executor."""
    address = parse_node_address(executor.status.addresses[0])
    node = Node(Home(home), NodeConfig(peers=(address,)))
    await node.start()
    try:
        yield node
    finally:
        await node.stop(drain_ms=0)


def request(skill: str, executor: NodeProcess, body: bytes = INPUT) -> TaskRequest:
    """For this executor and nobody else."""
    return TaskRequest(skill=skill, input=body, on=_id(executor), retry=False)


def task(node: Node, wish: TaskRequest) -> Callable[[], Awaitable[None]]:
    """Runs it to its end."""

    async def run() -> None:
        async for _ in node.run(wish):
            pass

    return run


@asynccontextmanager
async def task_samplers(
    wanted: Collection[str], node: Node, executor: NodeProcess, cluster: Cluster
) -> AsyncIterator[dict[str, Sampler]]:
    """Those of `SAMPLED` that are wanted."""
    samplers = {}
    if "task_warm" in wanted:
        samplers["task_warm"] = repeating(task(node, request(WARM, executor)))
    if "task_zygote" in wanted:
        samplers["task_zygote"] = repeating(task(node, request(FORKED, executor)))
    if "task_control_api" not in wanted:
        yield samplers
        return
    asked = await cluster.start("asked", peers=executor.status.addresses[:1])
    async with ControlClient(asked.home) as client:

        async def run() -> None:
            await client.run(WARM, INPUT, on=executor.status.id)

        yield {**samplers, "task_control_api": repeating(run)}


async def stream_chunks(node: Node, executor: NodeProcess, scale: Scale) -> Figure:
    """From the submission to the last chunk that the submitter receives."""
    rates = []
    for number in range(scale.rounds + 1):
        wish = request(STREAM, executor, b'{"count": %d}' % scale.chunks)
        received = 0
        began = time.perf_counter()
        async for update in node.run(wish):
            received += isinstance(update, TaskChunk)
        if number:  # the first one has also started the worker
            rates.append(received / (time.perf_counter() - began))
    return Figure(value=percentile(rates, 0.5), samples=len(rates))


async def task_rate(node: Node, executor: NodeProcess, scale: Scale) -> Figure:
    """As many at a time as in flight, until all are done; what it costs stands in the note."""
    run = task(node, request(WARM, executor))
    share = scale.flood // IN_FLIGHT

    async def caller() -> None:
        for _ in range(share):
            await run()

    async def flood() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        return share * IN_FLIGHT / (time.perf_counter() - began)

    def spent() -> tuple[float, float]:
        return cpu_seconds(os.getpid()), cpu_seconds(executor.process.pid)

    await flood()
    before = spent()
    rate = await flood()
    tasks = share * IN_FLIGHT
    submitting, executing = (1000 * (b - a) / tasks for a, b in zip(before, spent(), strict=True))
    inside = await _inside(run, executor.process.pid)
    note = (
        f"CPU ms per task: submitter {submitting:.2f}, executor {executing:.2f}, "
        f"inside the sandbox {inside:.2f}"
    )
    return Figure(value=rate, samples=tasks, note=note)


async def _inside(run: Callable[[], Awaitable[None]], executor: int) -> float:
    """Milliseconds per task of the sandbox's processes.

    A worker that has served its share is replaced, and what it had used is gone with it: then
    the second attempt meets a new one.
    """
    for _ in range(2):
        processes, before = descendants(executor), cpu_seconds_below(executor)
        for _ in range(INSIDE_TASKS // IN_FLIGHT):
            await asyncio.gather(*(run() for _ in range(IN_FLIGHT)))
        if descendants(executor) == processes:
            break
    return 1000 * (cpu_seconds_below(executor) - before) / INSIDE_TASKS


async def start_up(cluster: Cluster, scale: Scale, skills: list[Path]) -> dict[str, Figure]:
    """New homes, from the start of the process to the line that says it serves."""
    bare, serving = [], []
    for number in range(scale.starts):
        began = time.perf_counter()
        await cluster.start(f"bare-{number}")
        bare.append(time.perf_counter() - began)
        began = time.perf_counter()
        idle = await cluster.start(f"serving-{number}", skills=skills)
        serving.append(time.perf_counter() - began)
    await asyncio.sleep(SETTLE_S)
    return {
        "start_up": Figure(
            value=percentile(bare, 0.5),
            samples=len(bare),
            note=f"with {len(skills)} skills it had never seen: {percentile(serving, 0.5):.2f} s",
        ),
        "idle_rss": Figure(
            value=resident_bytes(idle.process.pid) / 1e6,
            samples=1,
            note=f"resident, offering {len(skills)} skills; no sandbox has been started for a call",
        ),
    }


def _id(executor: NodeProcess) -> NodeId:
    return parse_node_id(executor.status.id)
