"""The tls transport keeps the contract, over real sockets on loopback."""

import asyncio
import hashlib
import socket

import pytest

pytest.register_assert_rewrite("contracts.transport_contract", "contracts.two_nodes")

from contracts.transport_contract import TransportContract  # noqa: E402
from contracts.two_nodes import KIB, MIB, Node  # noqa: E402
from swarmharness.kernel.ids import DEVELOPMENT_NETWORK  # noqa: E402
from swarmharness.kernel.signing import KeyPair  # noqa: E402
from swarmharness.network.address import Address, TransportKind  # noqa: E402
from swarmharness.network.transport.tls import TlsTransport  # noqa: E402


class TlsFactory:
    stalled_bytes = MIB
    wire_bytes = 64 * 2 * 128 * KIB
    large_bytes = 64 * MIB
    connection_cycles = 100
    patience_ms = 2000
    hang_s = 120.0

    def __init__(self):
        self._transports = []
        self._mutes = []

    async def start(self, name, *, network_id=DEVELOPMENT_NETWORK):
        key = KeyPair(hashlib.sha256(name.encode()).digest())
        transport = TlsTransport(key, network_id, ("127.0.0.1", 0))
        self._transports.append(transport)
        return Node(name, key.node_id, transport, sorted(await transport.listen()))

    async def silent_address(self):
        mute = socket.create_server(("127.0.0.1", 0))  # the kernel accepts; nobody reads
        self._mutes.append(mute)
        return Address(TransportKind.TLS, *mute.getsockname())

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0.002)

    async def crash(self, node):
        """All its sockets vanish at once, as when the process is killed."""
        for channel in list(node.transport._channels):
            channel.abort()

    async def close(self):
        for mute in self._mutes:
            mute.close()
        for transport in self._transports:
            await transport.close(drain_ms=5000)


class TestTls(TransportContract):
    @pytest.fixture
    def factory(self):
        return TlsFactory()
