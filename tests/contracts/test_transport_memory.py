"""The memory transport keeps the contract, on perfect links and on bad ones."""

import asyncio
import hashlib

import pytest

pytest.register_assert_rewrite("contracts.transport_contract", "contracts.two_nodes")

from contracts.transport_contract import TransportContract  # noqa: E402
from contracts.two_nodes import KIB, MIB, Node  # noqa: E402
from swarmharness.kernel.ids import DEVELOPMENT_NETWORK, NodeId  # noqa: E402
from swarmharness.network.address import Address, TransportKind  # noqa: E402
from swarmharness.network.link_model import LAN, WAN, Cut, LinkModel  # noqa: E402
from swarmharness.network.transport.memory import MemoryNetwork, MemoryTransport  # noqa: E402


class MemoryFactory:
    stalled_bytes = 512 * KIB
    wire_bytes = 0
    large_bytes = 4 * MIB
    connection_cycles = 1000
    patience_ms = 3_600_000
    hang_s = 7 * 86_400.0

    def __init__(self, profile):
        self.network = MemoryNetwork(LinkModel(seed=1, default=profile))
        self._nodes = []

    async def start(self, name, *, network_id=DEVELOPMENT_NETWORK):
        node_id = NodeId(hashlib.sha256(name.encode()).digest())
        transport = MemoryTransport(node_id, network_id, name=name, network=self.network)
        self._nodes.append(transport)
        return Node(name, node_id, transport, sorted(await transport.listen()))

    async def silent_address(self):
        if self.network.node("silent") is None:
            await self.start("silent")
        for node in self._nodes:
            self.network.partition(node.name, "silent", Cut.BLACKHOLE)
        return Address(TransportKind.MEMORY, "silent")

    async def settle(self):
        await asyncio.sleep(60)  # virtual: more than any queue of these links takes

    async def crash(self, node):
        self.network.crash(node.name)

    async def close(self):
        for node in self._nodes:
            await node.close(drain_ms=0)


@pytest.mark.virtual
class TestMemoryOnPerfectLinks(TransportContract):
    @pytest.fixture
    def factory(self):
        return MemoryFactory(LinkModel().default)


@pytest.mark.virtual
class TestMemoryOnLan(TransportContract):
    @pytest.fixture
    def factory(self):
        return MemoryFactory(LAN)


@pytest.mark.virtual
class TestMemoryOnWan(TransportContract):
    @pytest.fixture
    def factory(self):
        factory = MemoryFactory(WAN)
        factory.large_bytes = MIB
        return factory
