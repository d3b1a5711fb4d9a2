"""A small TLS 1.3 server by hand, since no library lets one show a certificate without its key.

One cipher suite (ChaCha20-Poly1305 with SHA-256), one group (X25519), no options: enough to
present any certificate and sign CertificateVerify with any key.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
)

from swarmharness.kernel.signing import KeyPair
from swarmharness.network.address import Address, TransportKind

SUITE = bytes.fromhex("1303")
GROUP_X25519 = bytes.fromhex("001d")
SIGNATURE_ED25519 = bytes.fromhex("0807")
ALPN = b"swarmharness/1"
SECRET = b"s" * 32


def sized(width: int, body: bytes) -> bytes:
    return len(body).to_bytes(width, "big") + body


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + sized(3, body)


def expand(secret: bytes, label: str, context: bytes, length: int) -> bytes:
    info = length.to_bytes(2, "big") + sized(1, b"tls13 " + label.encode()) + sized(1, context)
    return hmac.digest(secret, info + b"\1", "sha256")[:length]


def derive(secret: bytes, label: str, transcript: bytes) -> bytes:
    return expand(secret, label, hashlib.sha256(transcript).digest(), 32)


class Cipher:
    """One direction under one traffic secret."""

    def __init__(self, secret: bytes) -> None:
        self._key = expand(secret, "key", b"", 32)
        self._iv = int.from_bytes(expand(secret, "iv", b"", 12), "big")
        self._count = 0

    def _nonce(self) -> bytes:
        nonce = (self._iv ^ self._count).to_bytes(12, "big")
        self._count += 1
        return nonce

    def seal(self, kind: int, content: bytes) -> bytes:
        head = b"\x17\3\3" + (len(content) + 17).to_bytes(2, "big")
        inner = content + bytes([kind])
        return head + crypto_aead_chacha20poly1305_ietf_encrypt(
            inner, head, self._nonce(), self._key
        )

    def open(self, record: bytes) -> bytes:
        inner = crypto_aead_chacha20poly1305_ietf_decrypt(
            record[5:], record[:5], self._nonce(), self._key
        )
        return inner.rstrip(b"\0")[:-1]


def hello_parts(hello: bytes) -> tuple[bytes, bytes]:
    """Session id and X25519 share of a ClientHello message."""
    at = 4 + 2 + 32
    session = hello[at + 1 : at + 1 + hello[at]]
    at += 1 + hello[at]
    suites = hello[at + 2 : at + 2 + int.from_bytes(hello[at : at + 2], "big")]
    assert SUITE in [suites[i : i + 2] for i in range(0, len(suites), 2)]
    at += 2 + len(suites)
    at += 1 + hello[at]
    at += 2
    while at < len(hello):
        kind = int.from_bytes(hello[at : at + 2], "big")
        body = hello[at + 4 : at + 4 + int.from_bytes(hello[at + 2 : at + 4], "big")]
        at += 4 + len(body)
        if kind == 51:
            share = 2
            while share < len(body):
                size = int.from_bytes(body[share + 2 : share + 4], "big")
                if body[share : share + 2] == GROUP_X25519:
                    return session, body[share + 4 : share + 4 + size]
                share += 4 + size
    raise AssertionError("the client offers X25519")


class Impostor(asyncio.Protocol):
    """Shows `certificate`, signs with `key`, greets, and keeps what the client then says."""

    def __init__(self, certificate: bytes, key: KeyPair, greeting: bytes) -> None:
        self._certificate = certificate
        self._key = key
        self._greeting = greeting
        self._pending = b""
        self._client: Cipher | None = None
        self._client_after: Cipher | None = None
        self.heard = b""
        self.alerts = b""
        self.gone = asyncio.Event()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while len(self._pending) >= 5:
            end = 5 + int.from_bytes(self._pending[3:5], "big")
            if len(self._pending) < end:
                return
            record, self._pending = self._pending[:end], self._pending[end:]
            self._take(record)

    def _take(self, record: bytes) -> None:
        kind = record[0]
        if kind == 22:
            self._transport.write(self._answer(record[5:]))
        elif kind == 21:
            self.alerts += record[5:]
        elif kind == 23:
            assert self._client is not None
            content = self._client.open(record)
            if content[0] == 20 and self._client_after is not None:  # its Finished
                self._client, self._client_after = self._client_after, None
            elif self._client_after is None:
                self.heard += content
            else:
                self.alerts += content

    def _answer(self, hello: bytes) -> bytes:
        session, their_share = hello_parts(hello)
        extensions = (
            b"\0\x2b"
            + sized(2, b"\3\4")
            + b"\0\x33"
            + sized(2, GROUP_X25519 + sized(2, crypto_scalarmult_base(SECRET)))
        )
        server_hello = message(
            2, b"\3\3" + b"r" * 32 + sized(1, session) + SUITE + b"\0" + sized(2, extensions)
        )
        talk = hello + server_hello
        zero = bytes(32)
        early = hmac.digest(zero, zero, "sha256")
        shared = crypto_scalarmult(SECRET, their_share)
        handshake = hmac.digest(derive(early, "derived", b""), shared, "sha256")
        server_secret = derive(handshake, "s hs traffic", talk)
        self._client = Cipher(derive(handshake, "c hs traffic", talk))

        flight = message(8, sized(2, b"\0\x10" + sized(2, sized(2, sized(1, ALPN)))))
        flight += message(11, b"\0" + sized(3, sized(3, self._certificate) + b"\0\0"))
        digest = hashlib.sha256(talk + flight).digest()
        signed = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + digest
        signature = self._key.sign_unlabelled(signed)
        flight += message(15, SIGNATURE_ED25519 + sized(2, signature))
        digest = hashlib.sha256(talk + flight).digest()
        finished_key = expand(server_secret, "finished", b"", 32)
        flight += message(20, hmac.digest(finished_key, digest, "sha256"))
        talk += flight

        master = hmac.digest(derive(handshake, "derived", b""), zero, "sha256")
        self._client_after = Cipher(derive(master, "c ap traffic", talk))
        application = Cipher(derive(master, "s ap traffic", talk))
        return (
            b"\x16\3\3"
            + sized(2, server_hello)
            + Cipher(server_secret).seal(22, flight)
            + application.seal(23, self._greeting)
        )


@asynccontextmanager
async def impostor(
    certificate: bytes, key: KeyPair, *, greeting: bytes
) -> AsyncIterator[tuple[Address, Impostor]]:
    """Serves one client."""
    one = Impostor(certificate, key, greeting)
    server = await asyncio.get_running_loop().create_server(lambda: one, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield Address(TransportKind.TLS, "127.0.0.1", port), one
    finally:
        server.close()
        one._transport.abort()
        await one.gone.wait()
        await server.wait_closed()
