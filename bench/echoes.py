"""The echoes measure the wire: bare TLS, our RPC over it, and bulk between two processes."""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from typing import final

import msgspec

from bench.child import Child, child
from bench.far_side import BULK_BYTES, ECHO, OFFER, a_hello, a_key
from bench.rows import FLOOR, Figure
from bench.sampling import Sampler, figure, in_turns, percentile, repeating
from bench.scale import Scale
from swarmharness.kernel.codec import decode
from swarmharness.kernel.ids import DEVELOPMENT_NETWORK, parse_node_id
from swarmharness.network.address import Address, TransportKind
from swarmharness.network.io.rpc_connection import RpcConnection
from swarmharness.network.rpc.messages import BulkTicket
from swarmharness.network.transport.seam import CLOSE_NORMAL
from swarmharness.network.transport.tls import TlsTransport
from swarmharness.network.transport.tls_context import dialer_context
from swarmharness.node.system_clock import SystemClock

NAMES = (FLOOR, "tls_streams_echo", "rpc_echo", "rpc_rate", "bulk")
IN_FLIGHT = 64
CALL_MS = 60_000
_PAYLOAD = secrets.token_bytes(1024)


async def measure(wanted: Collection[str], scale: Scale, directory: Path) -> dict[str, Figure]:
    """The figures of this module that are wanted."""
    async with AsyncExitStack() as stack:
        samplers: dict[str, Sampler] = {}
        far_sides: list[int] = []
        if {FLOOR, "tls_streams_echo"} & set(wanted):
            bare = await stack.enter_async_context(_far_side("tls", directory))
            far_sides.append(bare.process.pid)
            if FLOOR in wanted:
                samplers[FLOOR] = await stack.enter_async_context(
                    _bare_echo(bare.hello["protocol"])
                )
            if "tls_streams_echo" in wanted:
                samplers["tls_streams_echo"] = await stack.enter_async_context(
                    _streams_echo(bare.hello["streams"])
                )
        rpc = None
        if {"rpc_echo", "rpc_rate", "bulk"} & set(wanted):
            far = await stack.enter_async_context(_far_side("rpc", directory))
            far_sides.append(far.process.pid)
            rpc = await stack.enter_async_context(_connected(far.hello))
            if "rpc_echo" in wanted:
                samplers["rpc_echo"] = repeating(_call(rpc))
        figures = await _in_turns(samplers, far_sides, scale)
        if rpc is not None and "rpc_rate" in wanted:
            figures["rpc_rate"] = await _rate(rpc, scale)
        if rpc is not None and "bulk" in wanted:
            figures["bulk"] = await _bulk(rpc, scale)
    return figures


async def _in_turns(
    samplers: dict[str, Sampler], far_sides: list[int], scale: Scale
) -> dict[str, Figure]:
    """With a core for each side, as two nodes have.

    Left to itself, the scheduler lets the shortest echo play both sides on one core, where no
    core has to be woken, and spreads the longer ones: the ratio would then mostly compare that.
    """
    counts = dict.fromkeys(samplers, scale.echoes)
    with _apart(far_sides) as are_apart:
        apart = await in_turns(samplers, rounds=scale.rounds, counts=counts)
    figures = {name: figure(samples) for name, samples in apart.items()}
    if are_apart and FLOOR in samplers:
        free = await in_turns(samplers, rounds=scale.rounds, counts=counts)
        floor = percentile(free[FLOOR], 0.5)
        for name, samples in free.items():
            median = percentile(samples, 0.5)
            note = f"a core for each side; left to the scheduler: {median:.3f} ms"
            if name != FLOOR:
                note += f", {median / floor:.2f} × the floor"
            figures[name] = msgspec.structs.replace(figures[name], note=note)
    return figures


@contextmanager
def _apart(far_sides: list[int]) -> Iterator[bool]:
    """This process on one core and the far sides on another, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        yield False
        return
    everywhere = dict.fromkeys([0, *far_sides], cores)
    try:
        for pid in everywhere:
            os.sched_setaffinity(pid, {cores[-1] if pid else cores[0]})
        yield True
    finally:
        for pid, anywhere in everywhere.items():
            os.sched_setaffinity(pid, anywhere)


def _far_side(kind: str, directory: Path) -> AbstractAsyncContextManager[Child]:
    return child([sys.executable, "-m", "bench.far_side", kind], directory)


@final
class _EchoClient(asyncio.Protocol):
    def __init__(self) -> None:
        self._missing = 0
        self._whole: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing == 0 and self._whole is not None:
            self._whole.set_result(None)

    async def echo(self) -> None:
        self._missing = len(_PAYLOAD)
        self._whole = asyncio.get_running_loop().create_future()
        self._transport.write(_PAYLOAD)
        await self._whole


@asynccontextmanager
async def _bare_echo(port: str) -> AsyncIterator[Sampler]:
    transport, client = await asyncio.get_running_loop().create_connection(
        _EchoClient, "127.0.0.1", int(port), ssl=_client_context(), server_hostname=""
    )
    try:
        yield repeating(client.echo)
    finally:
        transport.abort()


@asynccontextmanager
async def _streams_echo(port: str) -> AsyncIterator[Sampler]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(port), ssl=_client_context(), server_hostname=""
    )

    async def echo() -> None:
        writer.write(_PAYLOAD)
        await writer.drain()
        await reader.readexactly(len(_PAYLOAD))

    try:
        yield repeating(echo)
    finally:
        writer.transport.abort()


def _client_context() -> ssl.SSLContext:
    """The same cipher as ours; whose certificate it is does not matter to a floor."""
    return dialer_context()


@asynccontextmanager
async def _connected(place: dict[str, str]) -> AsyncIterator[RpcConnection]:
    transport = TlsTransport(a_key(), DEVELOPMENT_NETWORK, None)
    try:
        connection = await transport.dial(
            parse_node_id(place["node"]),
            [Address(TransportKind.TLS, "127.0.0.1", int(place["port"]))],
            timeout_ms=CALL_MS,
        )
        rpc = RpcConnection(connection, methods={}, hello=a_hello(), clock=SystemClock())
        await rpc.start()
        yield rpc
        await rpc.close(CLOSE_NORMAL, "done", drain_ms=0)
    finally:
        await transport.close(drain_ms=0)


def _call(rpc: RpcConnection) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await rpc.call(ECHO, _PAYLOAD, timeout_ms=CALL_MS)

    return call


async def _rate(rpc: RpcConnection, scale: Scale) -> Figure:
    call = _call(rpc)
    share = scale.calls // IN_FLIGHT

    async def caller() -> None:
        for _ in range(share):
            await call()

    rates = []
    for _ in range(scale.rounds):
        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        rates.append(share * IN_FLIGHT / (time.perf_counter() - began))
    return Figure(value=percentile(rates, 0.5), samples=len(rates))


async def _bulk(rpc: RpcConnection, scale: Scale) -> Figure:
    rates = []
    for _ in range(scale.bulks):
        began = time.perf_counter()
        ticket = decode(BulkTicket, await rpc.call(OFFER, b"", timeout_ms=CALL_MS))
        data = await rpc.fetch_bulk(ticket, limit_bytes=BULK_BYTES, timeout_ms=CALL_MS)
        rates.append(len(data) / 1024**2 / (time.perf_counter() - began))
    return Figure(value=percentile(rates, 0.5), samples=len(rates))
