"""A node is put together here: identity, transport, peers, skills, sandbox, tasks.

This is the composition root: the only place that knows all rooms. It owns what they need in
common (one clock, one key, one home) and the order of starting and stopping them. Starting goes
from the inside out, so that nothing is offered before it can be run; stopping goes from the
outside in, so that nothing is cut off before it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, final

from swarmharness import __version__
from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import (
    DEVELOPMENT_NETWORK,
    NodeId,
    is_short_form,
    node_id_short,
    node_id_text,
    parse_node_id,
)
from swarmharness.network.address import NodeAddress, parse_node_address
from swarmharness.network.transport.seam import Transport
from swarmharness.network.transport.tls import TlsTransport
from swarmharness.node.api import NodeStatus, PeerStatus, SkillStatus, TaskCounts
from swarmharness.node.config import NodeConfig
from swarmharness.node.errors import AssertionsDisabled, ListenFailed
from swarmharness.node.home import Home
from swarmharness.node.identity import load_or_create
from swarmharness.node.offering import Offering, describe_json, description_from
from swarmharness.node.peers import Peer, Peers
from swarmharness.node.submission import Submissions
from swarmharness.node.system_clock import SystemClock
from swarmharness.node.workplace import Workplace
from swarmharness.skills.egress_log import EgressLog
from swarmharness.skills.errors import UnknownSkill
from swarmharness.skills.grants import parse_grant
from swarmharness.skills.io.description_cache import DescriptionCache
from swarmharness.skills.io.installed_environment import installed_environment
from swarmharness.skills.io.library import SkillLibrary
from swarmharness.skills.io.preparation import Prepared, Preparer
from swarmharness.skills.io.snapshot import SnapshotStore
from swarmharness.skills.messages import DESCRIBE_METHOD, WATCH_METHOD
from swarmharness.skills.sandbox.environments import EnvironmentCache
from swarmharness.skills.sandbox.executor import SandboxExecutor
from swarmharness.skills.sandbox.launch import launch
from swarmharness.skills.sandbox.probe import probe
from swarmharness.skills.sandbox.report import SandboxReport
from swarmharness.tasks.errors import NobodyOffers
from swarmharness.tasks.messages import RUN_METHOD
from swarmharness.tasks.task import TaskRequest
from swarmharness.tasks.update import TaskUpdates

log = logging.getLogger(__name__)

DRAIN_MS = 30_000  # what running tasks get at Ctrl-C
GOODBYE_MS = 1_000  # what calls that still run get when their connection is closed
DESCRIBE_MS = 10_000  # asking a peer for a skill's schemas
NAMED_PEERS_S = 1.0  # how long the start waits for named peers before it says “ready”
AGENT = f"swarmharness/{__version__}"


@final
class Node:
    """One node, from `start` to `stop`. Implements `NodeApi`."""

    def __init__(self, home: Home, config: NodeConfig) -> None:
        if not __debug__:
            raise AssertionsDisabled("Python's assertions are switched off.")
        self.home = home
        self.shutdown_requested = asyncio.Event()
        self._is_hurried = asyncio.Event()
        self._config = config
        self._clock = SystemClock()
        self._started_us = self._clock.now_us()
        self._is_draining = False
        home.acquire()
        try:
            self._key = load_or_create(home.identity)
        except SwarmError:
            home.release()
            raise
        self.node_id = self._key.node_id

    async def start(self) -> None:
        """From nothing to serving; a failure on the way stops what had begun."""
        async with AsyncExitStack() as begun:
            begun.callback(self.home.release)
            await self._start(begun)
            self._running = begun.pop_all()

    async def _start(self, begun: AsyncExitStack) -> None:
        """What has begun is told to `begun`, which ends it in the opposite order."""
        self._report: SandboxReport = await probe(allow_tier2=self._config.sandbox.allow_tier2)
        egress_log = EgressLog(self._clock)
        self._executor = SandboxExecutor(
            partial(launch, tier=self._report.tier), egress_log=egress_log
        )
        begun.push_async_callback(self._executor.close, drain_ms=0)
        self._library = await self._make_library()
        self._offering = Offering(self._library.find, sandbox_tier=self._report.tier.value)
        self._workplace = Workplace(self.node_id, self._library, self._executor)
        self._transport, self.addresses = await self._listen()
        begun.push_async_callback(self._transport.close, drain_ms=0)
        self._peers = Peers(
            self._transport,
            node_id=self.node_id,
            network_id=DEVELOPMENT_NETWORK,
            agent=AGENT,
            methods={
                WATCH_METHOD: self._offering.watch,
                DESCRIBE_METHOD: self._offering.describe,
                RUN_METHOD: self._workplace.run_for_peer,
            },
            clock=self._clock,
        )
        self._submissions = Submissions(
            node_id=self.node_id,
            peers=self._peers,
            library=self._library,
            workplace=self._workplace,
            clock=self._clock,
        )
        begun.push_async_callback(self._peers.close, drain_ms=GOODBYE_MS)
        begun.push_async_callback(self._library.close)
        begun.callback(self._offering.close)
        await self._library.start()
        self._peers.start()
        for address in self._config.peers:
            self._peers.name(address)
        await self._library.wait_ready()
        await self._peers.settle(NAMED_PEERS_S)

    async def _make_library(self) -> SkillLibrary:
        snapshots = SnapshotStore(self.home.snapshots)
        environments = EnvironmentCache(
            self.home.environments, tier=self._report.tier, clock=self._clock
        )
        await environments.clean()
        preparer = Preparer(
            snapshots=snapshots,
            describer=self._executor,
            descriptions=DescriptionCache(self.home.descriptions),
            base=await asyncio.to_thread(installed_environment),
            grants={name: parse_grant(table) for name, table in self._config.grants.items()},
            environments=environments,
            variables=os.environ,
        )
        return SkillLibrary(
            list(self._config.skill_directories),
            snapshots=snapshots,
            preparer=preparer,
            clock=self._clock,
            publish=self._publish,
            withdraw=self._withdraw,
        )

    async def _listen(self) -> tuple[Transport, tuple[NodeAddress, ...]]:
        host, port = self._config.listen
        ports = [port] if port else [self.home.remembered_port(), 0]
        for number, candidate in enumerate(dict.fromkeys(ports)):
            transport = TlsTransport(self._key, DEVELOPMENT_NETWORK, (host, candidate))
            try:
                addresses = await transport.listen()
            except SwarmError as error:
                await transport.close(drain_ms=0)
                if number + 1 == len(dict.fromkeys(ports)):
                    raise ListenFailed(error.sentence) from error
                continue
            self.home.remember_port(min(addresses).port)
            return transport, tuple(NodeAddress(self.node_id, a) for a in sorted(addresses))
        raise AssertionError("the last candidate either listens or raises")

    async def _publish(self, prepared: Prepared) -> None:
        await self._executor.add(prepared.runnable)
        self._offering.add(prepared.skill)

    async def _withdraw(self, name: str) -> None:
        self._offering.remove(name)
        await self._executor.remove(name, drain=True)

    async def stop(self, *, drain_ms: int = DRAIN_MS) -> None:
        """Refuse new work, let running work end, then take everything down."""
        self._is_draining = True
        self._workplace.drain()
        self._submissions.drain()
        await self._wait_until_idle(drain_ms)
        await self._running.aclose()

    def hurry(self) -> None:
        """Do not wait any longer for running tasks: they are cancelled."""
        self._is_hurried.set()

    async def _wait_until_idle(self, drain_ms: int) -> None:
        idle = asyncio.ensure_future(self._idle())
        hurried = asyncio.ensure_future(self._is_hurried.wait())
        await asyncio.wait(
            {idle, hurried}, timeout=drain_ms / 1000, return_when=asyncio.FIRST_COMPLETED
        )
        if not idle.done():
            log.warning("%d tasks did not end in time and are cancelled.", self.busy_with)
        for waiting in (idle, hurried):
            waiting.cancel()

    async def _idle(self) -> None:
        await self._submissions.gauge.wait_idle()
        await self._workplace.gauge.wait_idle()

    def request_shutdown(self) -> None:
        """Whoever runs the node sees this and stops it."""
        self.shutdown_requested.set()

    @property
    def busy_with(self) -> int:
        """Tasks that a drain waits for."""
        return self._workplace.for_peers.value + self._submissions.gauge.value

    async def status(self) -> NodeStatus:
        entries = self._library.entries()
        serving = len(self._library.skills())
        return NodeStatus(
            id=node_id_text(self.node_id),
            short_id=node_id_short(self.node_id),
            version=__version__,
            pid=os.getpid(),
            home=str(self.home.path),
            addresses=tuple(str(address) for address in self.addresses),
            uptime_s=round((self._clock.now_us() - self._started_us) / 1e6, 1),
            sandbox_tier=self._report.tier.value,
            sandbox=self._report.summary(),
            skills_serving=serving,
            skills_refused=sum(1 for e in entries if e.state in {"broken", "blocked"}),
            peers=tuple(self._peer_statuses()),
            tasks=TaskCounts(
                submitted_open=self._submissions.gauge.value,
                submitted_completed=self._submissions.completed,
                submitted_failed=self._submissions.failed,
                running=self._workplace.gauge.value,
                run_completed=self._workplace.completed,
                run_failed=self._workplace.failed,
            ),
            is_draining=self._is_draining,
            problems=self._library.problems,
            warnings=tuple(self._executor.warnings),
        )

    def _peer_statuses(self) -> list[PeerStatus]:
        named = self._peers.named
        statuses = [
            self._connected_status(peer, named[node_id].address if node_id in named else None)
            for node_id, peer in sorted(self._peers.connected.items())
        ]
        statuses += [
            PeerStatus(
                id=node_id_text(node_id),
                short_id=node_id_short(node_id),
                address=str(peer.address),
                state="dialling" if peer.error is None else "waiting",
                problem="" if peer.error is None else peer.error.sentence,
            )
            for node_id, peer in sorted(named.items())
            if node_id not in self._peers.connected
        ]
        return statuses

    @staticmethod
    def _connected_status(peer: Peer, address: NodeAddress | None) -> PeerStatus:
        rtt_us = peer.rpc.rtt_us
        return PeerStatus(
            id=node_id_text(peer.node_id),
            short_id=node_id_short(peer.node_id),
            address=str(address or peer.rpc.path().remote),
            state="connected",
            skills=len(peer.offers),
            rtt_ms=rtt_us / 1000 if rtt_us else None,
            in_flight=peer.in_flight,
            sandbox_tier=peer.sandbox_tier,
        )

    async def skills(self) -> list[SkillStatus]:
        found = [
            SkillStatus(
                name=entry.name or entry.folder,
                node="here",
                state=entry.state.value,
                version=entry.served.skill.version if entry.served else "",
                kind=entry.served.skill.description.kind if entry.served else "",
                summary=entry.served.skill.metadata.description if entry.served else "",
                places=entry.served.skill.terms.concurrency if entry.served else 0,
                reason=entry.reason,
                folder=str(entry.folder),
                warnings=tuple(entry.served.skill.warnings) if entry.served else (),
            )
            for entry in self._library.entries()
        ]
        for node_id, peer in sorted(self._peers.connected.items()):
            found += [
                SkillStatus(
                    name=offer.name,
                    node=node_id_short(node_id),
                    state="offered",
                    version=offer.version,
                    kind=offer.kind,
                    summary=offer.summary,
                    places=offer.places,
                )
                for offer in peer.offers.values()
            ]
        return found

    async def describe(self, skill: str) -> dict[str, Any]:
        """Schemas and words of a skill: our own, else the first peer's that offers it."""
        try:
            return description_from(describe_json(self._library.find(skill)))
        except UnknownSkill:
            return await self._describe_elsewhere(skill)

    async def _describe_elsewhere(self, skill: str) -> dict[str, Any]:
        for _, peer in sorted(self._peers.connected.items()):
            if skill in peer.offers:
                answer = await peer.rpc.call(
                    DESCRIBE_METHOD, skill.encode(), timeout_ms=DESCRIBE_MS
                )
                return description_from(answer)
        raise NobodyOffers(f"Nobody offers the skill “{skill}”.")

    def run(self, request: TaskRequest) -> TaskUpdates:
        return self._submissions.run(request)

    async def name_peer(self, address: str) -> None:
        self._peers.name(parse_node_address(address))

    def find_node(self, text: str) -> NodeId:
        if text == "here":
            return self.node_id
        if not is_short_form(text):
            return parse_node_id(text)
        known = {self.node_id, *self._peers.connected, *self._peers.named}
        matches = [node_id for node_id in sorted(known) if node_id_short(node_id) == text]
        if len(matches) != 1:
            raise NobodyOffers(
                f"{len(matches)} nodes known here have the short id {text}.",
                hint="`swarm status --json` prints the long ids.",
            )
        return matches[0]
