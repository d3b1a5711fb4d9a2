"""Nodes over the memory transport whose skills are Python functions: all of a node but its sandbox.

`async with MemorySwarm() as swarm: a = await swarm.node("a", skills={...})`. A skill is an async
generator function that takes the `SkillCall` and yields its events.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from swarmharness.kernel.ids import DEVELOPMENT_NETWORK, NetworkId, NodeId
from swarmharness.network.address import NodeAddress
from swarmharness.network.link_model import LinkModel, LinkProfile
from swarmharness.network.transport.memory import MemoryNetwork, MemoryTransport
from swarmharness.node.offering import Offering
from swarmharness.node.peers import Peers
from swarmharness.node.submission import Submissions
from swarmharness.node.workplace import Workplace
from swarmharness.simulator.virtual_clock import VirtualClock
from swarmharness.skills.call import CallEvent, Finished, Meters, SkillCall, Started
from swarmharness.skills.description import DESCRIPTION_VERSION, Description
from swarmharness.skills.errors import UnknownSkill
from swarmharness.skills.grants import Terms
from swarmharness.skills.messages import DESCRIBE_METHOD, WATCH_METHOD
from swarmharness.skills.metadata import SkillMetadata
from swarmharness.skills.request import SkillRequest
from swarmharness.skills.served import Digests, ServedSkill
from swarmharness.tasks.messages import RUN_METHOD
from swarmharness.tasks.task import TaskRequest
from swarmharness.tasks.update import TaskCompleted, TaskUpdate

Behaviour = Callable[[SkillCall], AsyncIterator[CallEvent]]
MIB = 1024 * 1024
CLOSE = LinkProfile(latency_us=1_000)


async def echo(call: SkillCall) -> AsyncIterator[CallEvent]:
    yield Started()
    yield Finished(call.input, Meters(wall_ms=1))


def served(
    name: str, *, publish: bool = True, places: int = 1, max_input: int = 16 * MIB
) -> ServedSkill:
    terms = Terms(
        publish=publish,
        isolation="fork",
        timeout_ms=30_000,
        concurrency=places,
        queue=16,
        cpu_milli=1000,
        memory_mb=256,
        disk_mb=64,
        max_input_bytes=max_input,
        max_output_bytes=64 * MIB,
    )
    description = Description(
        version=DESCRIPTION_VERSION,
        kind="plain",
        is_sync=False,
        front_matter={},
        docstring=None,
        instructions=None,
        input_schema={},
        output_schema={},
        examples=[],
        defaults=None,
        warnings=[],
    )
    digest = hashlib.sha256(name.encode()).digest()
    return ServedSkill(
        folder=name,
        metadata=SkillMetadata(name=name),
        request=SkillRequest(publish=publish),
        terms=terms,
        description=description,
        digests=Digests(content=digest, support=digest, environment=digest, schema=digest),
        is_pinned=True,
        mount=f"/app/skills/{name}",
    )


class Shelf:
    """Stands in for the skill library; `broken` maps names to what `find` raises."""

    def __init__(self) -> None:
        self.served: dict[str, ServedSkill] = {}
        self.broken: dict[str, Exception] = {}

    def find(self, name: str) -> ServedSkill:
        if name in self.broken:
            raise self.broken[name]
        if name not in self.served:
            raise UnknownSkill(f"There is no skill “{name}” on this node.")
        return self.served[name]

    def skills(self) -> dict[str, ServedSkill]:
        return dict(self.served)


class FakeExecutor:
    """Runs behaviours; counts the calls that are under way and remembers them all."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.calls: list[SkillCall] = []
        self.running = 0

    async def run(self, call: SkillCall) -> AsyncIterator[CallEvent]:
        self.calls.append(call)
        self.running += 1
        events = self.behaviours[call.skill](call)
        try:
            async for event in events:
                yield event
        finally:
            self.running -= 1
            await events.aclose()


def id_of(name: str) -> NodeId:
    return NodeId(hashlib.sha256(name.encode()).digest())


class MemoryNode:
    def __init__(
        self,
        network: MemoryNetwork,
        name: str,
        *,
        node_id: NodeId | None = None,
        network_id: NetworkId = DEVELOPMENT_NETWORK,
        methods: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.node_id = node_id or id_of(name)
        self.clock = VirtualClock()
        self.shelf = Shelf()
        self.executor = FakeExecutor()
        self.transport = MemoryTransport(self.node_id, network_id, name=name, network=network)
        self.offering = Offering(self.shelf.find, sandbox_tier="1")
        self.workplace = Workplace(self.node_id, self.shelf, self.executor)  # type: ignore[arg-type]
        self.peers = Peers(
            self.transport,
            node_id=self.node_id,
            network_id=network_id,
            agent="test/1",
            methods={
                WATCH_METHOD: self.offering.watch,
                DESCRIBE_METHOD: self.offering.describe,
                RUN_METHOD: self.workplace.run_for_peer,
                **(methods or {}),
            },
            clock=self.clock,
        )
        self.submissions = Submissions(
            node_id=self.node_id,
            peers=self.peers,
            library=self.shelf,  # type: ignore[arg-type]
            workplace=self.workplace,
            clock=self.clock,
        )

    @property
    def address(self) -> NodeAddress:
        return NodeAddress(self.node_id, self.transport.address)

    def serve(self, name: str, behaviour: Behaviour = echo, **terms: Any) -> None:
        skill = self.shelf.served[name] = served(name, **terms)
        self.executor.behaviours[name] = behaviour
        self.offering.add(skill)

    async def start(self) -> None:
        await self.transport.listen()
        self.peers.start()

    async def stop(self) -> None:
        self.offering.close()
        await self.peers.close(drain_ms=1_000)
        await self.transport.close(drain_ms=0)

    async def meet(self, *others: MemoryNode) -> None:
        """Connected, and told what they offer."""
        for other in others:
            self.peers.name(other.address)
        await self.peers.settle(5)
        for other in others:
            assert other.node_id in self.peers.connected

    async def updates(self, skill: str, value: bytes = b"{}", **request: Any) -> list[TaskUpdate]:
        task = TaskRequest(skill=skill, input=value, **request)
        return [update async for update in self.submissions.run(task)]

    async def result(self, skill: str, value: bytes = b"{}", **request: Any) -> TaskCompleted:
        last = (await self.updates(skill, value, **request))[-1]
        assert isinstance(last, TaskCompleted)
        return last


class MemorySwarm:
    def __init__(self, profile: LinkProfile = CLOSE) -> None:
        self.network = MemoryNetwork(LinkModel(default=profile))
        self.nodes: list[MemoryNode] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for node in self.nodes:
            await node.stop()

    async def node(
        self, name: str, *, skills: Mapping[str, Behaviour] | None = None, **options: Any
    ) -> MemoryNode:
        node = MemoryNode(self.network, name, **options)
        self.nodes.append(node)
        for skill, behaviour in (skills or {}).items():
            node.serve(skill, behaviour)
        await node.start()
        return node

    def crash(self, node: MemoryNode) -> None:
        """As if its process had been killed."""
        self.network.crash(node.name)
