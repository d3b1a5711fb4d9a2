"""The client of the control API: no node, a dead node, a node that answers nonsense."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from swarmharness.kernel.errors import Blame, ExitCode, SwarmError
from swarmharness.node.home import Home
from swarmharness.sdk import control_client
from swarmharness.sdk.control_client import ControlClient, read_endpoint
from swarmharness.sdk.errors import NodeBusy, NodeUnresponsive, NoNode
from swarmharness.tasks.errors import TaskExpired

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    made.endpoint.write_text(
        json.dumps(
            {
                "pid": 1,
                "url": "http://127.0.0.1:1",
                "socket": str(tmp_path / "s"),
                "node_id": "x",
                "version": "0",
                "started_ms": 0,
            }
        )
    )
    return made


@asynccontextmanager
async def answering(home: Home, answer: Answer) -> AsyncIterator[ControlClient]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        await answer(reader, writer)
        writer.close()

    serving: list[asyncio.Task[None] | None] = []
    server = await asyncio.start_unix_server(serve, read_endpoint(home).socket)
    try:
        async with ControlClient(home) as client:
            yield client
    finally:
        server.close()
        await asyncio.gather(*(task for task in serving if task is not None))
        await server.wait_closed()


def says(status: int, body: bytes, kind: str = "application/problem+json") -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()

    return answer


def test_no_endpoint_is_no_node(tmp_path: Path):
    with pytest.raises(NoNode) as caught:
        ControlClient(Home(tmp_path))
    assert caught.value.exit_code == ExitCode.NO_NODE
    assert str(tmp_path) in caught.value.sentence


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', "\x00"])
def test_a_damaged_endpoint_is_no_node(home: Home, content: str):
    home.endpoint.write_text(content)
    with pytest.raises(NoNode):
        read_endpoint(home)


async def test_an_endpoint_of_a_crashed_node_is_no_node(home: Home):
    async with ControlClient(home) as client:  # no such socket
        with pytest.raises(NoNode):
            await client.status()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(read_endpoint(home).socket)
    listening.close()  # the file stays, as after SIGKILL
    async with ControlClient(home) as client:
        with pytest.raises(NoNode):
            await client.status()
        with pytest.raises(NoNode):
            await client.run("s", b"{}")
        with pytest.raises(NoNode):
            await anext(client.stream("s", b"{}"))


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    return


async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    line = b'{"type":"offered"}\n'
    writer.write(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(b"%x\r\n%s\r\n" % (len(line), line))
    await writer.drain()


async def test_a_node_that_hangs_up_is_unresponsive(home: Home):
    async with answering(home, hang_up) as client:
        with pytest.raises(NodeUnresponsive):
            await client.status()


async def test_a_stream_that_breaks_off_is_unresponsive(home: Home):
    async with answering(home, break_off) as client:
        updates = client.stream("s", b"{}")
        assert (await anext(updates))["type"] == "offered"
        with pytest.raises(NodeUnresponsive):
            await anext(updates)


async def test_a_node_that_says_nothing_is_not_waited_for(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    monkeypatch.setattr(control_client, "ANSWER_S", 0.01)
    async with answering(home, nothing) as client:
        with pytest.raises(NodeUnresponsive):
            await client.status()


async def test_a_problem_is_raised_as_the_error_it_was(home: Home):
    problem = {
        "code": TaskExpired.code,
        "blame": "world",
        "detail": "Too late.",
        "hint": "Wait.",
        "data": {"attempts": []},
    }
    async with answering(home, says(504, json.dumps(problem).encode())) as client:
        with pytest.raises(TaskExpired) as caught:
            await client.status()
    error = caught.value
    assert (error.sentence, error.hint, error.data) == ("Too late.", "Wait.", {"attempts": []})
    assert error.exit_code == ExitCode.DEADLINE


async def test_an_error_line_ends_a_stream_as_that_error(home: Home):
    line = {
        "type": "error",
        "code": TaskExpired.code,
        "blame": "world",
        "detail": "Too late.",
        "hint": "",
        "data": {},
    }
    body = b'{"type":"offered"}\n' + json.dumps(line).encode() + b"\n"
    async with answering(home, says(200, body, "application/x-ndjson")) as client:
        updates = client.stream("s", b"{}")
        assert (await anext(updates))["type"] == "offered"
        with pytest.raises(TaskExpired):
            await anext(updates)


async def test_an_unknown_code_keeps_its_words(home: Home):
    problem = {"code": "new.code", "blame": "peer", "detail": "New.", "hint": "h", "data": {}}
    async with answering(home, says(400, json.dumps(problem).encode())) as client:
        with pytest.raises(SwarmError) as caught:
            await client.status()
    assert (caught.value.code, caught.value.blame) == ("new.code", Blame.PEER)
    assert caught.value.sentence == "New."


@pytest.mark.parametrize("body", [b"", b"Internal Server Error", b"[]", b'{"code": "x"}'])
async def test_an_error_that_is_no_problem_is_told_as_such(home: Home, body: bytes):
    async with answering(home, says(500, body)) as client:
        with pytest.raises(NodeUnresponsive):
            await client.status()


async def test_lines_end_at_line_feeds_only(home: Home):
    texts = ["a\u2028b\u0085c\x0bd\x0ce\x1cf", "", "ü" * 100_000]
    body = b"".join(
        json.dumps({"type": "chunk", "text": text}, ensure_ascii=False).encode() + b"\n"
        for text in texts
    )
    async with answering(home, says(200, body, "application/x-ndjson")) as client:
        assert [update["text"] async for update in client.stream("s", b"{}")] == texts


async def test_a_server_that_is_full_is_no_bug(home: Home):
    async with answering(home, says(503, b"Service Unavailable", "text/plain")) as client:
        with pytest.raises(NodeBusy) as caught:
            await client.status()
    assert caught.value.exit_code == ExitCode.REFUSED


@pytest.mark.parametrize("name", ["a/b", "a?b", "a#b", "../status", "%2e", "ü", "a b"])
async def test_a_skill_s_name_is_one_part_of_the_path(home: Home, name: str):
    paths = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(200, b"{}")(reader, writer)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        paths.append(head.split(b" ")[1].decode())
        await answer(reader, writer)
        writer.close()

    server = await asyncio.start_unix_server(serve, read_endpoint(home).socket)
    async with server, ControlClient(home) as client:
        assert await client.describe(name) == {}
    assert paths == [f"/api/v1/skills/{quote(name, safe='')}"]
