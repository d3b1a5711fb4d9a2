"""The node API is the one façade of a node: every surface calls this and nothing below it."""

from __future__ import annotations

from typing import Any, Protocol, final

import msgspec

from swarmharness.kernel.ids import NodeId
from swarmharness.tasks.task import TaskRequest
from swarmharness.tasks.update import TaskUpdates


@final
class PeerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One peer, connected or only named."""

    id: str
    short_id: str
    address: str
    state: str
    """`connected`, `dialling` or `waiting`."""
    skills: int = 0
    rtt_ms: float | None = None
    in_flight: int = 0
    sandbox_tier: str = ""
    problem: str = ""


@final
class TaskCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks since the start, in both roles."""

    submitted_open: int
    submitted_completed: int
    submitted_failed: int
    running: int
    run_completed: int
    run_failed: int


@final
class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `swarm status` shows."""

    id: str
    short_id: str
    version: str
    pid: int
    home: str
    addresses: tuple[str, ...]
    """What `--peer` takes on another machine."""
    uptime_s: float
    sandbox_tier: str
    sandbox: str
    skills_serving: int
    skills_refused: int
    peers: tuple[PeerStatus, ...]
    tasks: TaskCounts
    is_draining: bool
    problems: tuple[str, ...] = ()
    """What keeps the node from doing what it was asked to do."""
    warnings: tuple[str, ...] = ()
    """What the owner may want to know, the newest last."""


@final
class SkillStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One skill on one node, as this node knows it."""

    name: str
    node: str
    """`here`, or the short id of the peer that offers it."""
    state: str
    version: str = ""
    kind: str = ""
    summary: str = ""
    places: int = 0
    reason: str = ""
    folder: str = ""
    warnings: tuple[str, ...] = ()


class NodeApi(Protocol):
    """What a node does for its owner."""

    async def status(self) -> NodeStatus: ...

    async def skills(self) -> list[SkillStatus]: ...

    async def describe(self, skill: str) -> dict[str, Any]: ...

    def run(self, request: TaskRequest) -> TaskUpdates: ...

    async def name_peer(self, address: str) -> None: ...

    def find_node(self, text: str) -> NodeId:
        """The node that a person means: a long id, a short id, or `here`."""

    def request_shutdown(self) -> None: ...
