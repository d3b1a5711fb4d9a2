"""Every way to pose, relay, replay, exhaust or confuse that the `tls` transport must survive."""

import asyncio
import base64
import logging
import socket
import ssl
from contextlib import suppress

import pytest

from network.tls_impostor import impostor
from network.tls_pair import (
    ALICE,
    BOB,
    MALLORY,
    PATIENCE_MS,
    RawClient,
    fake_server,
    node,
    raw_client,
    raw_tcp,
)
from swarmharness.kernel.ids import DEVELOPMENT_NETWORK, NetworkId
from swarmharness.network import records
from swarmharness.network.certificate import certificate_of, signed_part
from swarmharness.network.client_proof import VERSION, Challenge, proof_payload, prove
from swarmharness.network.errors import (
    IdentityMismatch,
    ProtocolViolation,
    Unreachable,
    VersionMismatch,
)
from swarmharness.network.receive_window import FIRST_WINDOW_BYTES, WINDOW_BYTES_MAX
from swarmharness.network.records import RecordKind, RecordReader, number_record, record
from swarmharness.network.transport import tls_channel
from swarmharness.network.transport.seam import CLOSE_LOST, CLOSE_PROTOCOL_VIOLATION
from swarmharness.network.transport.tls_context import acceptor_context, dialer_context
from swarmharness.network.transport.tls_handshake import AcceptorHandshake
from swarmharness.network.transport.tls_limits import (
    SEND_HIGH_BYTES,
    TlsLimits,
)

NONCE = b"n" * 32
CHALLENGE = record(RecordKind.CHALLENGE, Challenge(VERSION, NONCE).encode())
OTHER_NETWORK = NetworkId(b"o" * 32)
IDENTITY, NETWORK, VERSIONS, TOKEN, VIOLATION = 64, 65, 66, 68, 69


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog):
    """What strangers do wrong is not this node's error."""
    yield
    loud = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert not loud


def auth_record(proof):
    return record(RecordKind.AUTH, proof.encode())


def honest(raw_nonce, **changes):
    proof = prove(ALICE, DEVELOPMENT_NETWORK, BOB.node_id, raw_nonce)
    return proof._replace(**changes)


async def welcomed(raw: RawClient) -> None:
    raw.writer.write(auth_record(honest((await raw.challenge()).nonce)))
    assert await raw.record() == (RecordKind.WELCOME, b"")


async def assert_unknown(bob):
    """Nobody surfaced, and Bob still serves the honest."""
    assert not bob._arrived._items
    assert not bob._connections
    async with node(ALICE, listens=False) as (alice, _):
        await alice.dial(BOB.node_id, sorted(await bob.listen()), timeout_ms=PATIENCE_MS)
        assert (await bob.accept()).remote_id == ALICE.node_id


# Posing as an acceptor.


async def dial_bob_at(place):
    async with node(ALICE, listens=False) as (alice, _):
        return await alice.dial(BOB.node_id, [place], timeout_ms=PATIENCE_MS)


async def test_the_victim_s_certificate_without_its_key():
    certificate = certificate_of(BOB)
    async with impostor(certificate, MALLORY, greeting=CHALLENGE) as (place, fake):
        with pytest.raises(IdentityMismatch, match=r"cannot prove to be .*BAD_SIGNATURE"):
            await dial_bob_at(place)
        await fake.gone.wait()
        assert fake.heard == b""


async def test_the_same_server_with_the_right_key_is_believed():
    """Without this the test above could pass for a wrong reason."""
    async with impostor(certificate_of(BOB), BOB, greeting=CHALLENGE) as (place, fake):
        async with node(ALICE, listens=False) as (alice, _):
            dialling = asyncio.create_task(alice.dial(BOB.node_id, [place], timeout_ms=PATIENCE_MS))
            while not fake.heard:
                await asyncio.sleep(0)
            dialling.cancel()
            await asyncio.gather(dialling, return_exceptions=True)
        assert fake.heard == auth_record(honest(NONCE))


def der(tag, *parts):
    body = b"".join(parts)
    size = len(body)
    head = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + head + body


def foreign_certificate(carried: bytes) -> bytes:
    """Mallory's own certificate with the victim's key in an extension."""
    extension = der(0x30, der(0x06, bytes.fromhex("2a030405")), der(0x04, der(0x04, carried)))
    body = der(0x30, signed_part(MALLORY.node_id)[3:], der(0xA3, der(0x30, extension)))
    algorithm = bytes.fromhex("300506032b6570")
    signature = MALLORY.sign_unlabelled(body)
    return der(0x30, body, algorithm, der(0x03, b"\0" + signature))


async def test_a_foreign_certificate_that_carries_the_victim_s_key(tmp_path):
    certificate = foreign_certificate(BOB.node_id + signed_part(BOB.node_id))
    private = bytes.fromhex("302e020100300506032b657004220420") + MALLORY.seed
    pem = "".join(
        f"-----BEGIN {label}-----\n{base64.encodebytes(body).decode()}-----END {label}-----\n"
        for label, body in (("PRIVATE KEY", private), ("CERTIFICATE", certificate))
    )
    file = tmp_path / "mallory.pem"
    file.write_text(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.set_alpn_protocols(["swarmharness/1"])
    async with fake_server(greeting=CHALLENGE, context=context) as server:
        with pytest.raises(IdentityMismatch, match="no node of a swarm, not "):
            await dial_bob_at(server.place)
        assert server.said == b""


async def test_an_honest_node_at_the_wrong_address_hears_nothing():
    context = acceptor_context(MALLORY)
    async with fake_server(greeting=CHALLENGE, context=context) as server:
        with pytest.raises(IdentityMismatch):
            await dial_bob_at(server.place)
        assert server.said == b""


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 70_000])
async def test_a_server_that_speaks_something_else(words):
    async with fake_server(words=words) as server:
        with pytest.raises((IdentityMismatch, ProtocolViolation)):
            await dial_bob_at(server.place)


@pytest.mark.parametrize(
    ("greeting", "error"),
    [
        (b"\xff" * 600, ProtocolViolation),
        (record(RecordKind.WELCOME), ProtocolViolation),
        (CHALLENGE + CHALLENGE, ProtocolViolation),
        (records.data_record(b"early"), ProtocolViolation),
        (record(RecordKind.CHALLENGE, b"\2" + NONCE), VersionMismatch),
        (records.close_record(VERSIONS, "too old"), VersionMismatch),
    ],
)
async def test_an_acceptor_that_breaks_the_order_of_the_handshake(greeting, error):
    async with fake_server(greeting=greeting, context=acceptor_context(BOB)) as server:
        with pytest.raises(error):
            await dial_bob_at(server.place)


async def test_an_acceptor_with_an_older_tls_only():
    older = acceptor_context(BOB)
    older.minimum_version = ssl.TLSVersion.TLSv1_2
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    async with fake_server(context=older) as server:
        with pytest.raises((VersionMismatch, Unreachable)):  # asyncio may hang up without a word
            await dial_bob_at(server.place)
        assert server.said == b""
    protocol_version_alert = b"\x15\3\3\0\2\2\x46"
    async with fake_server(words=protocol_version_alert) as server:
        with pytest.raises(VersionMismatch, match="share no TLS version"):
            await dial_bob_at(server.place)


async def test_an_acceptor_that_agrees_on_no_protocol_name():
    context = acceptor_context(BOB)
    context.set_alpn_protocols(["h2"])
    async with fake_server(greeting=CHALLENGE, context=context) as server:
        with pytest.raises(VersionMismatch, match="does not speak swarmharness/1"):
            await dial_bob_at(server.place)
        assert server.said == b""


async def test_an_acceptor_that_hangs_up_during_the_handshake():
    async with node(BOB, limits=TlsLimits(handshakes_per_ip=0)) as (bob, (place,)):
        with pytest.raises(Unreachable, match="during the handshake"):
            await dial_bob_at(place)
        assert bob.refused_strangers == 1


# Posing as a dialer.


FORGERIES = {
    "another key's signature": lambda n: honest(
        n,
        signature=MALLORY.sign(
            "tls-client-auth",
            proof_payload(DEVELOPMENT_NETWORK, BOB.node_id, ALICE.node_id, n),
        ),
    ),
    "an old nonce": lambda _: honest(b"o" * 32),
    "another acceptor": lambda n: prove(ALICE, DEVELOPMENT_NETWORK, MALLORY.node_id, n),
    "another label": lambda n: honest(
        n,
        signature=ALICE.sign(
            "tls-server-auth",
            proof_payload(DEVELOPMENT_NETWORK, BOB.node_id, ALICE.node_id, n),
        ),
    ),
    "the acceptor's own id": lambda n: prove(BOB, DEVELOPMENT_NETWORK, BOB.node_id, n),
    "a network it did not sign": lambda n: prove(ALICE, OTHER_NETWORK, BOB.node_id, n)._replace(
        network_id=DEVELOPMENT_NETWORK
    ),
    "no key at all": lambda n: honest(n, client_id=bytes(32)),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_proof(forgery):
    async with node(BOB) as (bob, (place,)):
        async with raw_client(place) as raw:
            nonce = (await raw.challenge()).nonce
            raw.writer.write(auth_record(FORGERIES[forgery](nonce)))
            code, text = await raw.refusal()
            assert code == IDENTITY
            assert text
        await assert_unknown(bob)


async def test_a_proof_for_another_network_and_another_version():
    async with node(BOB) as (bob, (place,)):
        async with raw_client(place) as raw:
            nonce = (await raw.challenge()).nonce
            raw.writer.write(auth_record(prove(ALICE, OTHER_NETWORK, BOB.node_id, nonce)))
            assert (await raw.refusal())[0] == NETWORK
        async with raw_client(place) as raw:
            await raw.challenge()
            raw.writer.write(auth_record(honest(NONCE, version=2)))
            assert (await raw.refusal())[0] == VERSIONS
        await assert_unknown(bob)


async def test_a_node_in_the_middle_relays_a_proof():
    """Mallory hands Bob's challenge to Alice, who dials Mallory, and her answer to Bob."""
    async with node(BOB) as (bob, (place,)):
        async with raw_client(place) as raw:
            challenge = record(RecordKind.CHALLENGE, (await raw.challenge()).encode())
            context = acceptor_context(MALLORY)
            async with (
                fake_server(greeting=challenge, context=context) as server,
                node(ALICE, listens=False) as (alice, _),
            ):
                dialling = asyncio.create_task(
                    alice.dial(MALLORY.node_id, [server.place], timeout_ms=PATIENCE_MS)
                )
                while not server.said:
                    await asyncio.sleep(0)
                raw.writer.write(bytes(server.said))
                assert (await raw.refusal())[0] == IDENTITY
                dialling.cancel()
                await asyncio.gather(dialling, return_exceptions=True)
        await assert_unknown(bob)


async def test_a_proof_is_reflected_to_the_node_that_made_it():
    """Bob dials Mallory, who challenges him with his own challenge."""
    async with node(BOB) as (bob, (place,)):
        async with raw_client(place) as raw:
            challenge = record(RecordKind.CHALLENGE, (await raw.challenge()).encode())
            context = acceptor_context(MALLORY)
            async with fake_server(greeting=challenge, context=context) as server:
                dialling = asyncio.create_task(
                    bob.dial(MALLORY.node_id, [server.place], timeout_ms=PATIENCE_MS)
                )
                while not server.said:
                    await asyncio.sleep(0)
                raw.writer.write(bytes(server.said))
                assert (await raw.refusal())[0] == IDENTITY
                dialling.cancel()
                await asyncio.gather(dialling, return_exceptions=True)
        await assert_unknown(bob)


async def test_a_replayed_proof():
    async with node(BOB) as (bob, (place,)):
        async with raw_client(place) as raw:
            proof = auth_record(honest((await raw.challenge()).nonce))
            raw.writer.write(proof)
            assert (await raw.record())[0] == RecordKind.WELCOME
            raw.writer.write(proof)  # on the same channel
            assert (await raw.refusal())[0] == CLOSE_PROTOCOL_VIOLATION
        async with raw_client(place) as raw:  # on another one
            await raw.challenge()
            raw.writer.write(proof)
            assert (await raw.refusal())[0] == IDENTITY
        connection = await bob.accept()
        assert (await connection.wait_closed()).code == CLOSE_PROTOCOL_VIOLATION
        await assert_unknown(bob)


async def test_an_attach_token_is_guessed_stolen_or_used_twice():
    async with node(BOB) as (bob, (place,)), raw_client(place) as primary:
        await welcomed(primary)
        connection = await bob.accept()
        primary.writer.write(number_record(RecordKind.ASK, 1))
        kind, answer = await primary.record()
        assert kind == RecordKind.ATTACH
        token = answer[4:]

        async def attach(key, token):
            async with raw_client(place) as raw:
                nonce = (await raw.challenge()).nonce
                proof = prove(key, DEVELOPMENT_NETWORK, BOB.node_id, nonce, token)
                raw.writer.write(auth_record(proof))
                kind, payload = await raw.record()
                return records.close_in(payload)[0] if kind == RecordKind.CLOSE else kind

        assert await attach(ALICE, b"guess" + b"\0" * 11) == TOKEN
        assert await attach(MALLORY, token) == TOKEN
        assert await attach(ALICE, token) == RecordKind.WELCOME
        assert await attach(ALICE, token) == TOKEN
        assert await connection.accept_stream()
        assert len(bob._connections) == 1


# Old versions, wrong protocols.


async def test_a_dialer_with_an_older_tls():
    context = dialer_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with node(BOB) as (bob, (place,)):
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            async with raw_client(place, context):
                pass
        await assert_unknown(bob)


@pytest.mark.parametrize("protocols", [[], ["h2"]])
async def test_a_dialer_with_another_protocol_name_or_none(protocols):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    async with node(BOB) as (bob, (place,)):
        async with raw_client(place, context) as raw:
            assert (await raw.refusal())[0] == VERSIONS
        await assert_unknown(bob)


async def test_no_session_is_offered_for_resumption():
    async with node(BOB) as (_, (place,)), raw_client(place) as raw:
        await welcomed(raw)
        session = raw.writer.get_extra_info("ssl_object").session
        assert session is None or not session.has_ticket


# Words that are too long, too slow or no words at all.


@pytest.mark.parametrize(
    "first",
    [
        b"\x02\xff\xff\xff" + b"x" * 2000,
        b"\x05\x00\x00\x05hello",
        b"\x63\x00\x00\x01?",
        b"\x02\x00\x00\x01?",
        b"GET / HTTP/1.1\r\n\r\n",
        record(RecordKind.OPEN),
    ],
)
async def test_a_first_record_that_is_no_proof(first):
    async with node(BOB) as (bob, (place,)):
        async with raw_client(place) as raw:
            await raw.challenge()
            raw.writer.write(first)
            assert (await raw.refusal())[0] == VIOLATION
        await assert_unknown(bob)


async def test_a_slow_first_record():
    limits = TlsLimits(handshake_ms=100, linger_ms=10)
    async with node(BOB, limits=limits) as (bob, (place,)):
        async with raw_client(place) as raw:
            proof = auth_record(honest((await raw.challenge()).nonce))
            raw.writer.write(proof[:20])
            assert await raw.record() is None
        assert not bob._strangers


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x16\3\1\0\5junk!"])
async def test_garbage_before_tls(garbage):
    async with node(BOB) as (bob, (place,)):
        async with raw_tcp(place) as (reader, writer):
            writer.write(garbage)
            answer = await reader.read()
            assert len(answer) < 100  # an alert at most
        await assert_unknown(bob)


async def test_a_client_hello_without_end(monkeypatch):
    ends = []
    monkeypatch.setattr(AcceptorHandshake, "lost", lambda _, error: ends.append(error))
    hello = b"\x16\3\1\x40\0" + b"\1\1\xff\xff" + b"x" * (16384 - 4)
    async with node(BOB) as (bob, (place,)):
        async with raw_tcp(place) as (reader, writer):
            writer.write(hello)
            with suppress(ConnectionError):
                assert await reader.read() == b""
        assert isinstance(ends[0], ProtocolViolation)
        assert "over 16384 bytes without proof" in ends[0].sentence
        await assert_unknown(bob)


async def test_half_open_handshakes_are_counted_per_address_and_expire():
    limits = TlsLimits(handshakes_per_ip=3, handshake_ms=PATIENCE_MS)
    async with node(BOB, limits=limits) as (bob, (place,)):
        async with raw_tcp(place), raw_tcp(place), raw_tcp(place):
            while len(bob._strangers) < 3:
                await asyncio.sleep(0)
            for _ in range(5):
                async with raw_tcp(place) as (reader, _):
                    with suppress(ConnectionError):
                        assert await reader.read() == b""
            assert bob.refused_strangers == 5
            assert len(bob._strangers) == 3
        while bob._strangers:
            await asyncio.sleep(0)
        assert not bob._strangers_at
        await assert_unknown(bob)


async def test_half_open_handshakes_of_everybody_together_are_counted():
    limits = TlsLimits(handshakes_pending=2)
    async with node(BOB, limits=limits) as (bob, (place,)):
        async with raw_tcp(place), raw_tcp(place):
            while len(bob._strangers) < 2:
                await asyncio.sleep(0)
            with pytest.raises(Unreachable):
                await dial_bob_at(place)
        while bob._strangers:
            await asyncio.sleep(0)
        await assert_unknown(bob)


async def test_a_half_open_handshake_ends_with_its_time():
    async with node(BOB, limits=TlsLimits(handshake_ms=50)) as (bob, (place,)):
        async with raw_tcp(place) as (reader, _):
            assert await reader.read() == b""
        assert not bob._strangers


# Authenticated and hostile.


@pytest.mark.parametrize(
    "words",
    [
        records.data_record(b"before the stream is open"),
        record(RecordKind.OPEN) * 2,
        record(RecordKind.OPEN) + record(RecordKind.FIN) * 2,
        record(RecordKind.OPEN) + record(RecordKind.FIN) + records.data_record(b"late"),
        record(RecordKind.OPEN) + records.data_record(b"x" * 1024) * 513,
        record(RecordKind.OPEN) + number_record(RecordKind.CREDIT, WINDOW_BYTES_MAX),
        record(RecordKind.WELCOME),
        records.attach_record(0, b"t" * 16),
        b"\x05\xff\xff\xff",
        b"\xff\xff\xff\xff",
    ],
)
async def test_a_peer_that_breaks_the_rules_of_streams(words):
    async with node(BOB) as (bob, (place,)), raw_client(place) as raw:
        await welcomed(raw)
        connection = await bob.accept()
        raw.writer.write(words)
        reason = await connection.wait_closed()
        assert (reason.code, reason.by_peer) == (CLOSE_PROTOCOL_VIOLATION, False)
        while (answer := await raw.record()) and answer[0] == RecordKind.CREDIT:
            pass
        assert answer is not None
        assert records.close_in(answer[1]) == (reason.code, reason.text)


async def test_breaking_the_rules_on_an_attached_channel_ends_the_connection():
    async with node(BOB) as (bob, (place,)), raw_client(place) as primary:
        await welcomed(primary)
        connection = await bob.accept()
        primary.writer.write(number_record(RecordKind.ASK, 1))
        token = (await primary.record())[1][4:]
        async with raw_client(place) as raw:
            nonce = (await raw.challenge()).nonce
            proof = prove(ALICE, DEVELOPMENT_NETWORK, BOB.node_id, nonce, token)
            raw.writer.write(auth_record(proof))
            assert (await raw.record())[0] == RecordKind.WELCOME
            raw.writer.write(record(RecordKind.OPEN))
            assert (await connection.wait_closed()).code == CLOSE_PROTOCOL_VIOLATION


async def test_many_tiny_records_cost_about_their_size():
    async with node(BOB) as (bob, (place,)), raw_client(place) as raw:
        await welcomed(raw)
        connection = await bob.accept()
        raw.writer.write(record(RecordKind.OPEN) + records.data_record(b"x") * FIRST_WINDOW_BYTES)
        stream = await connection.accept_stream()
        while sum(map(len, stream._chunks)) < FIRST_WINDOW_BYTES:
            await asyncio.sleep(0)
        assert len(stream._chunks) <= 3
        assert await stream.read(10) == b"x"
        assert await stream.read(10) == b"x" * 10
        assert len(await stream.read(WINDOW_BYTES_MAX)) == FIRST_WINDOW_BYTES - 11


def shrink_send_buffer(connection):
    link = connection._primary._transport.get_extra_info("socket")
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def test_a_peer_that_grants_credit_but_takes_nothing():
    limits = TlsLimits(write_stall_ms=100)
    async with node(BOB, limits=limits) as (bob, (place,)), raw_client(place) as raw:
        await welcomed(raw)
        connection = await bob.accept()
        shrink_send_buffer(connection)
        raw.writer.write(record(RecordKind.OPEN))
        stream = await connection.accept_stream()
        raw.writer.transport.pause_reading()
        writing = asyncio.create_task(stream.write(b"x" * 64 * 1024 * 1024))
        most = 0
        while not writing.done():
            if stream._credit == 0:
                raw.writer.write(number_record(RecordKind.CREDIT, WINDOW_BYTES_MAX))
                while stream._credit == 0 and not writing.done():
                    await asyncio.sleep(0)
            transport = connection._primary._transport
            most = max(most, transport.get_write_buffer_size())
            await asyncio.sleep(0)
        assert "took no bytes for 100 ms" in str(writing.exception())
        assert (await connection.wait_closed()).code == CLOSE_LOST
        assert most <= SEND_HIGH_BYTES + 2 * records.RECORD_BYTES_MAX


async def test_a_peer_that_asks_and_asks_and_reads_no_answer(monkeypatch):
    monkeypatch.setattr(tls_channel, "SEND_HIGH_BYTES", 4096)
    monkeypatch.setattr(tls_channel, "SEND_LOW_BYTES", 1024)
    monkeypatch.setattr(tls_channel, "SEND_LIMIT_BYTES", 64 * 1024)
    async with node(BOB) as (bob, (place,)), raw_client(place) as raw:
        await welcomed(raw)
        connection = await bob.accept()
        shrink_send_buffer(connection)
        raw.writer.transport.pause_reading()
        while not connection.is_over:
            raw.writer.write(number_record(RecordKind.ASK, 1) * 500)
            await asyncio.sleep(0)
        assert "answers unread" in (await connection.wait_closed()).text
        assert len(bob._tokens) <= 256


async def test_the_kernel_watches_for_dead_paths():
    async with node(BOB) as (bob, (place,)), raw_client(place) as raw:
        await welcomed(raw)
        connection = await bob.accept()
        link = connection._primary._transport.get_extra_info("socket")
        assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        silence_ms = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert silence_ms == TlsLimits().silence_ms


async def test_a_dialer_refuses_what_only_an_acceptor_may_be_asked():
    for words in (
        number_record(RecordKind.ASK, 1),
        record(RecordKind.ABANDON, b"t" * 16),
        record(RecordKind.OPEN),
    ):
        greeting = CHALLENGE + record(RecordKind.WELCOME)
        context = acceptor_context(BOB)
        async with (
            fake_server(
                greeting=CHALLENGE, words=greeting[len(CHALLENGE) :] + words, context=context
            ) as server,
            node(ALICE, listens=False) as (alice, _),
        ):
            there = await alice.dial(BOB.node_id, [server.place], timeout_ms=PATIENCE_MS)
            assert (await there.wait_closed()).code == CLOSE_PROTOCOL_VIOLATION


async def test_unasked_tokens_beyond_the_streams_are_abandoned():
    context = acceptor_context(BOB)
    offers = b"".join(records.attach_record(0, bytes([n]) * 16) for n in range(5))
    async with (
        fake_server(
            greeting=CHALLENGE, words=record(RecordKind.WELCOME) + offers, context=context
        ) as server,
        node(ALICE, listens=False, limits=TlsLimits(streams=2)) as (alice, _),
    ):
        there = await alice.dial(BOB.node_id, [server.place], timeout_ms=PATIENCE_MS)
        assert len(there._attaching) == 2
        reader = RecordReader()
        while server.said.count(record(RecordKind.ABANDON, b"\4" * 16)) == 0:
            await asyncio.sleep(0)
        kinds = [kind for kind, _ in reader.feed(memoryview(bytes(server.said)))]
        assert kinds.count(RecordKind.ABANDON) >= 3
