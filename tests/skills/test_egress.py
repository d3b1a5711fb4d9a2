"""The egress proxy against hostile guests, hostile names and slow everything, on loopback."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from swarmharness.skills.egress_log import DECISION_LIMIT, EgressLog, Outcome
from swarmharness.skills.errors import SandboxProtocolBroken
from swarmharness.skills.guest import egress as guest_side
from swarmharness.skills.network_policy import Address, NetworkPolicy
from swarmharness.skills.sandbox import egress
from swarmharness.skills.sandbox.egress import EgressProxy, SystemResolver, receive_listener
from swarmharness.skills.sandbox.egress_relay import EgressLimits

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class StoppedClock:
    def now_us(self) -> int:
        return 0

    def wall_ms(self) -> int:
        return 1_700_000_000_000


class Names:
    """A resolver whose answers are listed in advance, one per question."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [ip_address(text) for text in answers.pop(0).split()]


class Proxied:
    """A running proxy and a way to speak to it as the guest would."""

    def __init__(self, proxy: EgressProxy, log: EgressLog, address: tuple[str, int]) -> None:
        self.proxy = proxy
        self.log = log
        self.address = address

    @asynccontextmanager
    async def connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def ask(self, request: bytes) -> bytes:
        """Everything that comes back until the proxy hangs up."""
        async with self.connection() as (reader, writer):
            writer.write(request)
            return await reader.read()

    def outcomes(self) -> list[Outcome]:
        return [decision.outcome for decision in self.log.recent()]


@asynccontextmanager
async def proxied(
    *rules: str, names: Names | None = None, limits: EgressLimits | None = None
) -> AsyncIterator[Proxied]:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    log = EgressLog(StoppedClock())
    proxy = EgressProxy(NetworkPolicy.parse(rules), log, limits=limits, resolve=names or Names())
    task = asyncio.create_task(proxy.serve(listener))
    try:
        yield Proxied(proxy, log, address)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), task.exception()


@asynccontextmanager
async def server(handler: Handler, **options: object) -> AsyncIterator[int]:
    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
            await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(closing, "127.0.0.1", 0, **options)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()
        await running.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            if task.get_coro().__name__ == "closing":
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


def replying(reply: bytes, seen: list[bytes] | None = None) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        writer.write(reply)

    return handler


def connect(target: str) -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()


def reason(reply: bytes) -> str:
    """The status line and the body must tell the same reason."""
    head, _, body = reply.partition(b"\r\n\r\n")
    told = json.loads(body)
    status_line = head.split(b"\r\n")[0].decode()
    assert status_line.endswith(" " + told["reason"])
    assert told["error"] == ("policy_denied" if " 403 " in status_line else "unavailable")
    return status_line.removeprefix("HTTP/1.1 ")


# CONNECT ---------------------------------------------------------------------------------------


async def test_a_listed_literal_is_tunnelled_and_half_close_reaches_the_far_side() -> None:
    async with server(echo) as port, proxied(f"127.0.0.1:{port}") as it:
        async with it.connection() as (reader, writer):
            writer.write(connect(f"127.0.0.1:{port}") + b"early ")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.write(b"late")
            writer.write_eof()
            assert await reader.read() == b"early late"
        assert it.outcomes() == [Outcome.ALLOWED]
        assert it.log.recent()[0].address == "127.0.0.1"
        assert (it.log.bytes_out, it.log.bytes_in) == (10, 10)


async def test_unlisted_host_and_unlisted_port_are_refused_without_a_question_to_dns() -> None:
    names = Names()
    async with proxied("listed.test:443", names=names) as it:
        assert reason(await it.ask(connect("other.test:443"))) == "403 host_unlisted"
        assert reason(await it.ask(connect("listed.test:80"))) == "403 port_unlisted"
        assert reason(await it.ask(connect("127.0.0.1:443"))) == "403 host_unlisted"
        assert reason(await it.ask(connect("[::1]:443"))) == "403 host_unlisted"
        assert reason(await it.ask(connect("169.254.169.254:80"))) == "403 host_unlisted"
        assert names.asked == []
        assert [d.target for d in it.log.recent()][:2] == ["other.test:443", "listed.test:80"]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "10.1.2.3", "169.254.169.254", "::ffff:127.0.0.1", "fd00::1", "0.0.0.0"],
)
async def test_a_listed_name_that_resolves_privately_is_refused(address: str) -> None:
    async def unreachable(_r: asyncio.StreamReader, _w: asyncio.StreamWriter) -> None:
        raise AssertionError("dialled")

    async with server(unreachable) as port:
        names = Names(listed_test=[address])
        async with proxied(f"listed.test:{port}", names=names) as it:
            assert reason(await it.ask(connect(f"listed.test:{port}"))) == "403 address_private"
            assert it.outcomes() == [Outcome.ADDRESS_PRIVATE]


async def test_a_name_is_resolved_once_and_the_judged_address_is_dialled() -> None:
    """The second answer would be the attack; it must still be unasked at the end."""
    async with server(echo) as port:
        names = Names(listed_test=["10.9.9.9 127.0.0.1", "127.0.0.66"])
        async with proxied(f"listed.test:{port}", f"127.0.0.1:{port}", names=names) as it:
            async with it.connection() as (reader, writer):
                writer.write(connect(f"listed.test:{port}"))
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            assert names.asked == ["listed.test"]
            assert names.answers["listed.test"] == ["127.0.0.66"]
            assert it.log.recent()[0].address == "127.0.0.1"


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    async with server(echo) as port:
        names = Names(listed_test=["127.0.0.7 127.0.0.1"])
        rules = [f"{host}:{port}" for host in ("listed.test", "127.0.0.7", "127.0.0.1")]
        async with proxied(*rules, names=names) as it, it.connection() as (reader, writer):
            writer.write(connect(f"listed.test:{port}"))
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            assert it.log.recent()[0].address == "127.0.0.1"


async def test_an_unknown_name_and_a_closed_port_each_say_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with proxied("gone.test:443", f"127.0.0.1:{port}") as it:
        assert reason(await it.ask(connect("gone.test:443"))) == "502 name_unresolved"
        assert reason(await it.ask(connect(f"127.0.0.1:{port}"))) == "502 unreachable"


async def test_a_resolver_that_hangs_is_given_up() -> None:
    async def hanging(host: str, port: int) -> Sequence[Address]:
        await asyncio.Event().wait()
        raise AssertionError

    limits = EgressLimits(resolve_seconds=0.01)
    async with proxied("slow.test:443", names=hanging, limits=limits) as it:  # type: ignore[arg-type]
        assert reason(await it.ask(connect("slow.test:443"))) == "502 name_unresolved"


async def test_tls_passes_through_a_tunnel_untouched(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=listed.test"),
            *("-addext", "subjectAltName=DNS:listed.test"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(certificate))
    async with server(echo, ssl=inside) as port:
        names = Names(listed_test=["127.0.0.1"])
        async with proxied(f"listed.test:{port}", f"127.0.0.1:{port}", names=names) as it:
            reader, writer = await asyncio.open_connection(*it.address)
            writer.write(connect(f"listed.test:{port}"))
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await writer.start_tls(client, server_hostname="listed.test")
            writer.write(b"secret")
            assert await reader.readexactly(6) == b"secret"
            writer.close()
            await writer.wait_closed()


# Plain HTTP ------------------------------------------------------------------------------------


async def test_an_absolute_target_is_forwarded_without_hop_by_hop_headers() -> None:
    seen: list[bytes] = []
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Kept: 1\r\nConnection: x-hop\r\nX-Hop: 1\r\n"
        b"Proxy-Authenticate: Basic\r\n\r\nhello"
    )
    async with server(replying(answer, seen)) as port, proxied(f"127.0.0.1:{port}") as it:
        reply = await it.ask(
            f"GET http://127.0.0.1:{port}/a?b=c HTTP/1.1\r\nHost: elsewhere.test\r\n"
            "Proxy-Authorization: secret\r\nConnection: x-mine\r\nX-Mine: 1\r\n"
            "Accept: */*\r\n\r\n".encode()
        )
        head, _, body = reply.partition(b"\r\n\r\n")
        assert body == b"hello"
        assert b"X-Kept" in head.replace(b"x-kept", b"X-Kept")
        assert b"x-hop" not in head.lower()
        assert b"proxy-auth" not in head.lower()
        request = seen[0].lower()
        assert request.startswith(b"get /a?b=c http/1.1\r\n")
        assert f"host: 127.0.0.1:{port}\r\n".encode() in request
        assert b"accept: */*" in request
        for hidden in (b"elsewhere", b"secret", b"x-mine"):
            assert hidden not in request


async def test_a_chunked_body_goes_up_and_a_chunked_reply_comes_down() -> None:
    received: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        received.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

    async with server(handler) as port, proxied(f"127.0.0.1:{port}") as it:
        reply = await it.ask(
            f"POST http://127.0.0.1:{port} HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n"
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".encode()
        )
        assert b"3\r\nabc\r\n0\r\n\r\n" in reply
        assert received[0].lower().startswith(b"post / http/1.1\r\n")
        assert b"content-length" not in received[0].lower()
        assert received[1] == b"5\r\nhello\r\n0\r\n\r\n"


async def test_a_second_request_on_one_connection_never_reaches_the_server() -> None:
    seen: list[bytes] = []
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with server(replying(answer, seen)) as port, proxied(f"127.0.0.1:{port}") as it:
        one = f"GET http://127.0.0.1:{port}/1 HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        reply = await it.ask(one + one.replace(b"/1", b"/2"))
        assert reply.count(b"HTTP/1.1 200") == 1
        assert len(seen) == 1


async def test_the_permission_to_continue_is_passed_on() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(4)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body)

    async with (
        server(handler) as port,
        proxied(f"127.0.0.1:{port}") as it,
        it.connection() as (reader, writer),
    ):
        writer.write(
            f"PUT http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
            "Content-Length: 4\r\n\r\n".encode()
        )
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"body")
        assert (await reader.read()).endswith(b"body")


@pytest.mark.parametrize(
    "request_line",
    [
        "GET / HTTP/1.1",
        "GET https://listed.test/ HTTP/1.1",
        "GET ftp://listed.test/ HTTP/1.1",
        "GET http://user:pw@listed.test/ HTTP/1.1",
        "GET http://listed.test\\@other.test/ HTTP/1.1",
        "GET http://listed.test/#part HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http://0x7f000001/ HTTP/1.1",
        "GET http://127.1/ HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "CONNECT listed.test HTTP/1.1",
        "CONNECT http://listed.test:443 HTTP/1.1",
        "CONNECT user@listed.test:443 HTTP/1.1",
        "CONNECT listed.test:443:443 HTTP/1.1",
        "not http at all",
        "GET http://listed.test/ HTTP/3.7.1",
        "\x16\x03\x01\x02",
    ],
)
async def test_what_is_not_exactly_one_of_the_two_requests_is_malformed(request_line: str) -> None:
    async with proxied("listed.test:80", "listed.test:443") as it:
        reply = await it.ask(request_line.encode() + b"\r\nHost: listed.test\r\n\r\n")
        assert reason(reply) == "400 malformed"
        assert it.outcomes() == [Outcome.MALFORMED]


async def test_a_reply_that_is_not_http_becomes_a_typed_refusal() -> None:
    garbage = replying(b"\x00garbage\r\n\r\n")
    async with server(garbage) as port, proxied(f"127.0.0.1:{port}") as it:
        request = f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        assert reason(await it.ask(request)) == "502 broken_reply"
        assert it.outcomes() == [Outcome.ALLOWED, Outcome.BROKEN_REPLY]


async def test_a_reply_cut_short_never_looks_complete() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"
    async with server(replying(answer)) as port, proxied(f"127.0.0.1:{port}") as it:
        request = f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        reply = await it.ask(request)
        assert b"200 OK" in reply
        assert not reply.endswith(b"0\r\n\r\n")
        assert it.outcomes() == [Outcome.ALLOWED, Outcome.BROKEN_REPLY]


async def test_no_bytes_of_a_guest_break_the_proxy() -> None:
    """Every head is answered or dropped; an unforeseen error would end `serve` and fail here."""
    pieces = [
        *("GET ", "HEAD ", "CONNECT ", "POST ", "http://", "127.0.0.1:1", "listed.test:443", "/"),
        *(" HTTP/1.1", " HTTP/1.0", "\r\n", "\r\n\r\n", "Host: h", "Content-Length: 3", "\x00"),
        *(
            "Transfer-Encoding: chunked",
            "Connection: close, host",
            "Expect: 100-continue",
            "zz\r\n",
        ),
        *(
            "Upgrade: websocket",
            "Content-Length: -1",
            "3\r\nabc\r\n",
            "0\r\n\r\n",
            "\xff",
            "Host: i",
        ),
    ]
    heads = [
        f"{method} {target} HTTP/1.1\r\nHost: h\r\n{header}\r\n{body}"
        for method in ("GET", "HEAD", "CONNECT", "POST")
        for target in ("http://other.test/", "http://127.0.0.1:PORT/", "127.0.0.1:PORT", "x:1")
        for header in ("", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n")
        for body in ("\r\n", "\r\nzz\r\n", "\r\n3\r\nabc\r\n0\r\n\r\n")
    ]
    chance = random.Random(7)
    heads += ["".join(chance.choices(pieces, k=chance.randrange(1, 14))) for _ in range(300)]
    limits = EgressLimits(head_seconds=0.02, idle_seconds=0.02, linger_seconds=0.02)
    async with server(echo) as port, proxied(f"127.0.0.1:{port}", limits=limits) as it:
        for head in heads:
            async with it.connection() as (reader, writer):
                writer.write(head.replace("PORT", str(port)).encode("latin-1"))
                writer.write_eof()
                with suppress(ConnectionResetError):
                    await reader.read()


async def test_no_bytes_of_a_server_break_the_proxy() -> None:
    replies = [
        b"",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
        b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 " + b"long " * 10_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
        b"HTTP/1.1 999 Odd\r\n\r\n",
        b"HTTP/1.1 000 Odd\r\n\r\n",
        b"\x00" * 100,
    ]
    limits = EgressLimits(idle_seconds=0.05, linger_seconds=0.05)
    for reply in replies:
        handler = replying(reply)
        async with server(handler) as port, proxied(f"127.0.0.1:{port}", limits=limits) as it:
            for method in ("GET", "HEAD", "POST"):
                head = f"{method} http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: h\r\n\r\n"
                said = await it.ask(head.encode())
                assert said.startswith(b"HTTP/1.1 ")


async def test_a_refused_head_request_is_answered_without_a_body() -> None:
    async with proxied() as it:
        reply = await it.ask(b"HEAD http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 403 host_unlisted\r\n")
        assert reply.endswith(b"\r\n\r\n")


# Limits ----------------------------------------------------------------------------------------


async def test_a_head_that_outgrows_its_limit_is_malformed() -> None:
    async with proxied("listed.test:443") as it:
        head = b"CONNECT listed.test:443 HTTP/1.1\r\nX: " + b"a" * 40_000
        assert reason(await it.ask(head)) == "400 malformed"


async def test_a_head_that_drips_is_cut_although_bytes_keep_coming() -> None:
    limits = EgressLimits(head_seconds=0.05, linger_seconds=0.05)
    async with proxied("listed.test:443", limits=limits) as it:
        async with it.connection() as (reader, writer):
            writer.write(b"CONNECT listed.test:443 HTTP/1.1\r\nX: ")
            answered = asyncio.create_task(reader.read())
            while not answered.done():
                writer.write(b"a")
                await asyncio.wait([answered], timeout=0.005)
            assert reason(await answered) == "408 head_timeout"
        assert it.outcomes() == [Outcome.HEAD_TIMEOUT]


async def test_a_silent_connection_is_told_and_dropped() -> None:
    async with proxied("listed.test:443", limits=EgressLimits(head_seconds=0.01)) as it:
        assert reason(await it.ask(b"")) == "408 head_timeout"


async def test_an_idle_tunnel_is_cut_and_says_why_in_the_log() -> None:
    async with server(echo) as port:
        limits = EgressLimits(idle_seconds=0.02)
        async with proxied(f"127.0.0.1:{port}", limits=limits) as it:
            reply = await it.ask(connect(f"127.0.0.1:{port}"))
            assert reply.endswith(b"\r\n\r\n")
            assert it.outcomes() == [Outcome.ALLOWED, Outcome.IDLE_TIMEOUT]


async def test_bytes_out_are_limited_to_the_byte() -> None:
    received = bytearray()

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            received.extend(data)

    limits = EgressLimits(bytes_each_way=100_000)
    async with server(sink) as port, proxied(f"127.0.0.1:{port}", limits=limits) as it:
        async with it.connection() as (reader, writer):
            writer.write(connect(f"127.0.0.1:{port}"))
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"x" * 300_000)
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert it.outcomes() == [Outcome.ALLOWED, Outcome.BYTE_LIMIT]
    assert len(received) <= 100_000


async def test_bytes_in_are_limited_for_tunnels_and_for_replies() -> None:
    body = b"y" * 300_000

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + body)

    limits = EgressLimits(bytes_each_way=100_000)
    async with server(flood) as port, proxied(f"127.0.0.1:{port}", limits=limits) as it:
        tunnelled = await it.ask(connect(f"127.0.0.1:{port}") + b"x")
        request = f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        assert len(tunnelled) < 101_000
        assert len(await it.ask(request)) < 101_000
        assert it.outcomes() == [Outcome.ALLOWED, Outcome.BYTE_LIMIT] * 2


async def test_connections_beyond_the_limit_are_told_and_a_place_comes_back() -> None:
    limits = EgressLimits(connections=2, waiting=1)
    async with server(echo) as port, proxied(f"127.0.0.1:{port}", limits=limits) as it:
        request = connect(f"127.0.0.1:{port}")
        async with it.connection() as (held, holder):
            holder.write(request)
            await held.readuntil(b"\r\n\r\n")
            async with it.connection() as (reader, writer):
                writer.write(request)
                await reader.readuntil(b"\r\n\r\n")
                assert reason(await it.ask(request)) == "503 too_many_connections"
                writer.write_eof()
                assert await reader.read() == b""
            async with it.connection() as (reader, writer):
                writer.write(request)
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")


async def test_a_sender_waits_when_the_far_side_does_not_read() -> None:
    release = asyncio.Event()
    total = 16 * 1024 * 1024

    async def stubborn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        size = 0
        while data := await reader.read(1 << 20):
            size += len(data)
        writer.write(str(size).encode())

    async with (
        server(stubborn, limit=1024) as port,
        proxied(f"127.0.0.1:{port}") as it,
        it.connection() as (reader, writer),
    ):
        writer.write(connect(f"127.0.0.1:{port}"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(bytes(total))
        writer.write_eof()
        drained = asyncio.create_task(writer.drain())
        await asyncio.wait([drained], timeout=0.2)
        assert not drained.done()
        assert it.log.bytes_out < total
        release.set()
        assert await reader.read() == str(total).encode()
        await drained


async def test_the_systems_resolver_answers_for_names() -> None:
    resolver = SystemResolver()
    try:
        assert ip_address("127.0.0.1") in await resolver("127.0.0.1", 80)
        with pytest.raises(OSError, match=r"."):
            await resolver("127.0.0.1", -1)
    finally:
        resolver.close()


async def test_accepting_goes_on_after_an_aborted_guest_and_a_lack_of_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(egress, "ACCEPT_PAUSE_SECONDS", 0)
    loop = asyncio.get_running_loop()
    faults = [ConnectionAbortedError(), OSError(errno.EMFILE, "too many open files")]
    accept = loop.sock_accept

    async def troubled(listener: socket.socket) -> tuple[socket.socket, object]:
        if faults:
            raise faults.pop(0)
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", troubled)
    async with proxied() as it:
        assert reason(await it.ask(connect("other.test:443"))) == "403 host_unlisted"
    assert not faults


async def test_cancelling_the_proxy_closes_open_tunnels() -> None:
    async with server(echo) as port:
        async with proxied(f"127.0.0.1:{port}") as it:
            reader, writer = await asyncio.open_connection(*it.address)
            writer.write(connect(f"127.0.0.1:{port}"))
            await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


def test_the_log_is_bounded_and_still_counts_everything() -> None:
    log = EgressLog(StoppedClock())
    for _ in range(DECISION_LIMIT + 5):
        log.note("x" * 10_000, Outcome.HOST_UNLISTED)
    assert len(log.recent()) == DECISION_LIMIT
    assert len(log.recent()[0].target) < 1000
    assert log.counts == {Outcome.HOST_UNLISTED: DECISION_LIMIT + 5}


# Hand-off --------------------------------------------------------------------------------------


def pair() -> tuple[socket.socket, socket.socket]:
    host, guest = socket.socketpair()
    host.settimeout(0)
    return host, guest


async def test_the_hand_off_takes_one_byte_and_leaves_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in guest_side._PROXY_VARIABLES:
        monkeypatch.setenv(name, "")
    host, guest = pair()
    with host, guest, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        waiting = asyncio.create_task(receive_listener(host))
        await asyncio.sleep(0)
        guest_side.open_listener(guest, port)
        guest.send(b"next frame")
        with await waiting as listener:
            assert listener.getsockname() == ("127.0.0.1", port)
            assert not listener.get_inheritable()
            assert host.recv(100) == b"next frame"
        assert os.environ["https_proxy"] == f"http://127.0.0.1:{port}"
        with pytest.raises(ConnectionRefusedError):  # the guest kept no copy
            socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("kind", ["none", "two", "connected", "datagram", "unix", "file", "mark"])
async def test_anything_but_one_tcp_listener_is_a_violation(kind: str) -> None:
    host, guest = pair()
    with (
        host,
        guest,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(type=socket.SOCK_DGRAM) as datagram,
        socket.socket() as plain,
        Path(os.devnull).open("rb") as file,
    ):
        fds = {
            "none": [],
            "two": [listener.fileno(), listener.fileno()],
            "connected": [plain.fileno()],
            "datagram": [datagram.fileno()],
            "unix": [guest.fileno()],
            "file": [file.fileno()],
            "mark": [listener.fileno()],
        }[kind]
        mark = b"X" if kind == "mark" else b"L"
        if fds:
            socket.send_fds(guest, [mark], fds)
        else:
            guest.send(mark)
        with pytest.raises(SandboxProtocolBroken):
            await receive_listener(host)


async def test_a_guest_that_ends_before_the_hand_off_is_a_violation() -> None:
    host, guest = pair()
    with host:
        guest.close()
        with pytest.raises(SandboxProtocolBroken):
            await receive_listener(host)


GUEST_PROGRAM = """
import socket, sys, urllib.request, urllib.error
sys.path.insert(0, sys.argv[1])
import egress
control = socket.socket(fileno=int(sys.argv[2]))
egress.open_listener(control)
def fetch(url):
    try:
        with urllib.request.urlopen(url) as reply:
            return reply.read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.reason}"
print(fetch(sys.argv[3]))
print(fetch("http://unlisted.test/"))
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[4])), timeout=5)
    print("escaped")
except OSError:
    print("no way but the proxy")
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_from_an_empty_network_namespace_only_the_listed_host_is_reached() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nopen"
    host, guest = pair()
    async with server(replying(answer)) as port:
        with host, guest:
            child = await asyncio.create_subprocess_exec(
                *("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-all"),
                *("--die-with-parent", sys.executable, "-I", "-S", "-c", GUEST_PROGRAM),
                str(Path(guest_side.__file__).parent),
                str(guest.fileno()),
                f"http://127.0.0.1:{port}/",
                str(port),
                pass_fds=[guest.fileno()],
                stdout=asyncio.subprocess.PIPE,
            )
            listener = await receive_listener(host)
            log = EgressLog(StoppedClock())
            proxy = EgressProxy(NetworkPolicy.parse([f"127.0.0.1:{port}"]), log)
            serving = asyncio.create_task(proxy.serve(listener))
            said, _ = await child.communicate()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
    assert said.decode().splitlines() == ["open", "403 host_unlisted", "no way but the proxy"]
    assert log.counts == {Outcome.ALLOWED: 1, Outcome.HOST_UNLISTED: 1}
