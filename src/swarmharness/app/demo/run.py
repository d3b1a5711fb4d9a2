"""The run of the demo: start, send, kill one node at work, wait for every task, report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

import msgspec

from swarmharness.app.demo.cluster import Cluster, NodeProcess
from swarmharness.app.demo.errors import NothingSurvived, TasksLost
from swarmharness.app.demo.scoreboard import Scoreboard
from swarmharness.app.demo.workload import Job, examples_directory, make_workload
from swarmharness.app.session import SESSION, say
from swarmharness.kernel.errors import SwarmError
from swarmharness.sdk.control_client import ControlClient
from swarmharness.skills.errors import SandboxUnavailable

if TYPE_CHECKING:
    from rich.live import Live

NODES = 5
COPIES = 3  # nodes that offer each skill: killing one leaves two
IN_FLIGHT = 24  # tasks at a time; about five for each node
KILL_AFTER = 0.25  # of the tasks: enough to have begun, enough still to come
DEADLINE_MS = 60_000  # as long as the whole demo may take
REFRESH_S = 0.1  # people see it move, and the terminal keeps up


@final
class Report(msgspec.Struct, kw_only=True):
    """What `swarm demo --json` prints in `data`."""

    nodes: int
    tasks_submitted: int
    tasks_completed: int
    failovers: int
    p50_ms: float
    p99_ms: float
    seconds: float
    sandbox_tier: str
    killed_node: str
    work_by_node: dict[str, int]
    work_by_skill: dict[str, int]


class _Stage(NamedTuple):
    workers: Sequence[NodeProcess]
    submitter: NodeProcess
    board: Scoreboard


async def run_demo(tasks: int) -> Report:
    """Raises `TasksLost` when a task was not completed, `NothingSurvived` when none was moved."""
    began = time.monotonic()
    examples = examples_directory()
    jobs = make_workload(examples, tasks)
    async with Cluster() as cluster:
        stage = await _set_up(cluster, examples, tasks)
        async with _shown(stage.board):
            await _send_all(stage, jobs)
        report = _report(stage, len(jobs), time.monotonic() - began)
    if report.tasks_completed != report.tasks_submitted:
        lost = "; ".join(stage.board.failed[:3])
        raise TasksLost(
            f"{report.tasks_submitted - report.tasks_completed} of {report.tasks_submitted}"
            f" tasks were lost: {lost}",
            data=msgspec.structs.asdict(report),
        )
    if stage.board.killed is None:
        raise NothingSurvived("No node was at work when one was to be killed.")
    if report.failovers == stage.board.failovers_before_kill:
        raise NothingSurvived(f"Node {report.killed_node} was killed, and no task had to move.")
    return report


async def _set_up(cluster: Cluster, examples: Path, total: int) -> _Stage:
    folders = sorted(path for path in (examples / "skills").iterdir() if path.is_dir())
    shares = [
        [folder for position, folder in enumerate(folders) if (position - number) % NODES < COPIES]
        for number in range(NODES)
    ]
    say(f"Starting {NODES} nodes and a submitter…")
    workers = await asyncio.gather(
        *(cluster.start(f"node-{number + 1}", skills=share) for number, share in enumerate(shares))
    )
    if workers[0].status.sandbox_tier == "0":
        raise SandboxUnavailable(workers[0].status.sandbox)
    say(workers[0].status.sandbox)
    addresses = [worker.status.addresses[0] for worker in workers]
    submitter = await cluster.start("submitter", peers=addresses)
    offers = {
        worker.status.short_id: [folder.name for folder in share]
        for worker, share in zip(workers, shares, strict=True)
    }
    return _Stage(workers, submitter, Scoreboard(offers, total))


async def _send_all(stage: _Stage, jobs: Sequence[Job]) -> None:
    places = asyncio.Semaphore(IN_FLIGHT)
    async with ControlClient(stage.submitter.home) as node, asyncio.TaskGroup() as group:
        for number, job in enumerate(jobs):
            await places.acquire()
            if number >= KILL_AFTER * len(jobs) and stage.board.killed is None:
                _kill_busiest(stage)
            task = group.create_task(_send(node, job, stage.board))
            task.add_done_callback(lambda _task: places.release())


def _kill_busiest(stage: _Stage) -> None:
    """Only a node that is at work: its tasks are what has to survive."""
    board = stage.board
    victim = max(stage.workers, key=lambda worker: board.working[worker.status.short_id])
    if board.working[victim.status.short_id] > 0:
        victim.kill()
        board.killed = victim.status.short_id
        board.failovers_before_kill = board.failovers
        board.milestone(f"node {board.killed} is killed at work")


async def _send(node: ControlClient, job: Job, board: Scoreboard) -> None:
    began = time.monotonic()
    at: str | None = None
    updates = node.stream(job.skill, job.input_json, deadline_ms=DEADLINE_MS)
    try:
        async with aclosing(updates):
            async for update in updates:
                match update["type"]:
                    case "accepted":
                        at = update["short_node"]
                        board.accepted(at)
                    case "moved" | "completed" if at is not None:
                        board.left(at)
                        at = None
                if update["type"] == "completed":
                    board.finished(job.skill, update, (time.monotonic() - began) * 1000)
    except SwarmError as error:
        board.failed.append(f"{job.skill}: {error.sentence}")
        if at is not None:
            board.left(at)


def _report(stage: _Stage, submitted: int, seconds: float) -> Report:
    board = stage.board
    return Report(
        nodes=NODES,
        tasks_submitted=submitted,
        tasks_completed=board.completed,
        failovers=board.failovers,
        p50_ms=round(board.percentile_ms(50), 1),
        p99_ms=round(board.percentile_ms(99), 1),
        seconds=round(seconds, 1),
        sandbox_tier=stage.workers[0].status.sandbox_tier,
        killed_node=board.killed or "",
        work_by_node={node: board.done[node] for node in board.nodes},
        work_by_skill=dict(sorted(board.by_skill.items())),
    )


@asynccontextmanager
async def _shown(board: Scoreboard) -> AsyncIterator[None]:
    """The live table on a terminal; elsewhere the last one; nothing for programs."""
    if SESSION.is_json:
        yield
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal:
        board.milestone = say
        board.milestone(f"sending {board.total} tasks")
        yield
        console.print(board.render())
        return
    with Live(board.render(), console=console, auto_refresh=False) as live:
        refreshing = asyncio.create_task(_refresh(live, board))
        try:
            yield
        finally:
            refreshing.cancel()
            live.update(board.render(), refresh=True)


async def _refresh(live: Live, board: Scoreboard) -> None:
    while True:
        await asyncio.sleep(REFRESH_S)
        live.update(board.render(), refresh=True)
