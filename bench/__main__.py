"""Runs the benchmark: `python -m bench [--json] [--quick] [--only NAME,…]`.

Ends by itself; no process and no file is left. Exit status 1 where a row failed, 0 where all were
measured or only peers are missing: a missed aim is a figure, not an error.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from typing import final

import msgspec

from bench import echoes, nodes, peers
from bench.machine import Machine, this_machine
from bench.rows import NAMES, Figure, Row, rows
from bench.sampling import Sampler, figure, in_turns
from bench.scale import FULL, QUICK, Scale
from bench.skills import write_skills
from bench.table import show
from swarmharness.app.demo.cluster import Cluster

IDLE_NAMES = ("idle_rss", "start_up")
INTERRUPTED = 130


@final
class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`data` of the envelope `swarm.bench/1`."""

    machine: Machine
    is_quick: bool
    rows: list[Row]


async def measure(wanted: Collection[str], scale: Scale) -> tuple[dict[str, Figure], bool]:
    """Each group by itself: one that fails says so in its rows and stops no other."""
    figures: dict[str, Figure] = {}
    is_whole = True
    async with Cluster() as cluster:
        skills = write_skills(cluster.directory / "skills")

        async def wire() -> dict[str, Figure]:
            return await echoes.measure(wanted, scale, cluster.directory)

        async def idle() -> dict[str, Figure]:
            return await nodes.start_up(cluster, scale, skills)

        async def tasks() -> dict[str, Figure]:
            return await _tasks(cluster, wanted, scale)

        groups: dict[Callable[[], Awaitable[dict[str, Figure]]], tuple[str, ...]] = {
            wire: echoes.NAMES,
            tasks: (*nodes.NAMES, *peers.NAMES),
            idle: IDLE_NAMES,
        }
        for group, names in groups.items():
            asked = [name for name in names if name in wanted]
            if not asked:
                continue
            try:
                found = await group()
            except Exception as error:  # noqa: BLE001  told in the rows, with its traceback
                traceback.print_exception(error)
                is_whole = False
                found = dict.fromkeys(asked, Figure(note=f"failed: {error!r}"))
            figures |= {name: found[name] for name in asked}
    return figures, is_whole


async def _tasks(cluster: Cluster, wanted: Collection[str], scale: Scale) -> dict[str, Figure]:
    """The same trivial skill by every way, in turns; then floods and streams."""
    skills = cluster.directory / "skills"
    figures: dict[str, Figure] = {}
    async with AsyncExitStack() as stack:
        samplers: dict[str, Sampler] = {}
        executor = await cluster.start("executor", skills=sorted(skills.iterdir()))
        node = await stack.enter_async_context(
            nodes.submitter(cluster.directory / "submitter", executor)
        )
        samplers |= await stack.enter_async_context(
            nodes.task_samplers(wanted, node, executor, cluster)
        )
        for peer, names in peers.PEERS.items():
            asked = [name for name in names if name in wanted]
            if asked and not peers.is_there():
                figures |= dict.fromkeys(asked, Figure(note=peers.MISSING))
            elif asked:
                found = await stack.enter_async_context(peer(cluster.directory, skills))
                samplers |= {name: found[name] for name in asked}
        counts = dict.fromkeys(samplers, scale.tasks)
        if "task_zygote" in counts:
            counts["task_zygote"] = scale.forks
        samples = await in_turns(samplers, rounds=scale.rounds, counts=counts)
        figures |= {name: figure(found) for name, found in samples.items()}
    if {"stream_chunks", "task_rate"} & set(wanted):
        # The peers have ended: their idle processes would cost what is counted here.
        async with nodes.submitter(cluster.directory / "submitter", executor) as node:
            if "stream_chunks" in wanted:
                figures["stream_chunks"] = await nodes.stream_chunks(node, executor, scale)
            if "task_rate" in wanted:
                figures["task_rate"] = await nodes.task_rate(node, executor, scale)
    return figures


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast a swarm is.")
    parser.add_argument("--json", action="store_true", help="one envelope as the last line")
    parser.add_argument("--quick", action="store_true", help="few repetitions: does it work?")
    parser.add_argument("--only", default="", metavar="NAME,…", help=", ".join(NAMES))
    chosen = parser.parse_args(arguments)
    wanted = [name for name in chosen.only.split(",") if name] or list(NAMES)
    unknown = sorted(set(wanted) - set(NAMES))
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    logging.basicConfig(level=logging.ERROR)
    machine = this_machine()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, leaving nothing
    try:
        figures, is_whole = asyncio.run(measure(wanted, QUICK if chosen.quick else FULL))
    except KeyboardInterrupt:
        return INTERRUPTED
    report = Report(machine=machine, is_quick=chosen.quick, rows=rows(figures))
    if chosen.json:
        envelope = {"schema": "swarm.bench/1", "ok": is_whole, "data": report}
        sys.stdout.write(msgspec.json.encode(envelope).decode() + "\n")
    else:
        show(machine, report.rows)
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
