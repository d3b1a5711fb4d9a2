"""Connections that ask for nothing, by real sockets: they end, and never keep the owner out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from swarmharness.http import connection, server
from swarmharness.http.server import ControlServer
from swarmharness.kernel.ids import NodeId
from swarmharness.node.home import Home

ASK = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class BareNode:
    """As much of a node as the server itself needs; nothing asks more of it here."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.node_id = NodeId(bytes(32))


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[ControlServer]:
    home = Home(directory / "home")
    home.create()
    node: Any = BareNode(home)
    control = ControlServer(node)
    await control.start()
    try:
        yield control
    finally:
        await control.stop()


def port_of(control: ControlServer) -> int:
    return int(control.url.rpartition(":")[2])


async def connect(control: ControlServer) -> Streams:
    return await asyncio.open_connection("127.0.0.1", port_of(control))


async def ask(control: ControlServer, streams: Streams) -> bytes:
    reader, writer = streams
    writer.write(ASK % port_of(control))
    head = await reader.readuntil(b"\r\n\r\n")
    return head.split(b" ")[1]


async def hang_up(*many: Streams) -> None:
    for _, writer in many:
        writer.close()


async def test_strangers_on_the_port_do_not_keep_the_owner_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server, "CONNECTIONS_LIMIT", 3)
    async with serving(tmp_path) as control:
        idle = [await connect(control) for _ in range(5)]
        assert await ask(control, idle[0]) == b"503"
        owner = await asyncio.open_unix_connection(str(control._socket_path))
        assert await ask(control, owner) == b"200"
        await hang_up(owner, *idle)


async def test_more_connections_than_may_be_open_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "OPEN_LIMIT", 2)
    async with serving(tmp_path) as control:
        first, second = await connect(control), await connect(control)
        assert await ask(control, first) == b"200"
        third = await connect(control)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await ask(control, third)
        assert await ask(control, second) == b"200"
        await hang_up(first, second, third)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /hea",
        b"POST /api/v1/peers HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nG",
    ],
)
async def test_a_request_that_does_not_come_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
):
    monkeypatch.setattr(connection, "REQUEST_S", 0.05)
    async with serving(tmp_path) as control:
        reader, writer = await connect(control)
        writer.write(sent)
        await reader.read()  # to its end: the node closes it
        assert reader.at_eof()
        await hang_up((reader, writer))


async def test_a_connection_that_asks_again_is_kept(tmp_path: Path):
    async with serving(tmp_path) as control:
        reader, writer = await connect(control)
        for _ in range(3):
            assert await ask(control, (reader, writer)) == b"200"
            assert await reader.readexactly(11) == b'{"ok":true}'
        await hang_up((reader, writer))
