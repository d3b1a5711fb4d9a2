"""The far side is the process at the other end of an echo or of a bulk transfer.

`python -m bench.far_side tls|rpc` prints where it listens and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from typing import final

from swarmharness.kernel.codec import encode
from swarmharness.kernel.ids import DEVELOPMENT_NETWORK, node_id_text
from swarmharness.kernel.signing import KeyPair
from swarmharness.network.io.incoming_call import IncomingCall
from swarmharness.network.io.rpc_connection import RpcConnection
from swarmharness.network.rpc.messages import Hello
from swarmharness.network.transport.seam import CLOSE_GOING_AWAY, Connection
from swarmharness.network.transport.tls import TlsTransport
from swarmharness.network.transport.tls_context import acceptor_context
from swarmharness.node.system_clock import SystemClock

ECHO = "bench.echo"
OFFER = "bench.offer"
BULK_BYTES = 64 * 1024 * 1024
TICKET_MS = 60_000


def a_key() -> KeyPair:
    """A new one: nobody is to recognise a node of the benchmark."""
    return KeyPair(secrets.token_bytes(32))


def a_hello() -> Hello:
    """In the development network, as every node is."""
    return Hello(DEVELOPMENT_NETWORK, secrets.token_bytes(16), agent="bench")


@final
class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def _serve_tls(ended: asyncio.Event) -> None:
    context = acceptor_context(a_key())
    loop = asyncio.get_running_loop()
    protocol = await loop.create_server(_Echo, "127.0.0.1", 0, ssl=context)
    streams = await asyncio.start_server(_echo_stream, "127.0.0.1", 0, ssl=context)
    _say(
        {
            "protocol": protocol.sockets[0].getsockname()[1],
            "streams": streams.sockets[0].getsockname()[1],
        }
    )
    await ended.wait()


async def _echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()


async def _serve_rpc(ended: asyncio.Event) -> None:
    key = a_key()
    transport = TlsTransport(key, DEVELOPMENT_NETWORK, ("127.0.0.1", 0))
    (address,) = await transport.listen()
    data = secrets.token_bytes(BULK_BYTES)

    async def echo(call: IncomingCall) -> bytes:
        return call.body

    async def offer(call: IncomingCall) -> bytes:
        return encode(await call.connection.offer_bulk(data, ttl_ms=TICKET_MS))

    async def serve(connection: Connection) -> None:
        rpc = RpcConnection(
            connection,
            methods={ECHO: echo, OFFER: offer},
            hello=a_hello(),
            clock=SystemClock(),
        )
        await rpc.start()
        await ended.wait()
        await rpc.close(CLOSE_GOING_AWAY, "done", drain_ms=0)

    _say({"node": node_id_text(key.node_id), "port": address.port})
    await serve(await transport.accept())
    await transport.close(drain_ms=0)


async def _main(kind: str) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    serving = loop.create_task({"tls": _serve_tls, "rpc": _serve_rpc}[kind](ended))
    ending = loop.create_task(ended.wait())
    await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(sys.stdin.fileno())
    if serving.done():
        serving.result()
    await asyncio.wait({serving}, timeout=1.0)


def _say(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
