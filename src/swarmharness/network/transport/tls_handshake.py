"""The handshake inside a fresh channel: certificate, challenge, proof, welcome.

Both sides are sinks, driven by the channel's bytes, so that a record that follows in the same
packet already meets the next sink. Nothing of the layers above is sent before both ids stand.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import final

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import NetworkId, NodeId, node_id_short
from swarmharness.kernel.signing import Signer
from swarmharness.network.address import Address
from swarmharness.network.certificate import is_certificate_of, node_id_in
from swarmharness.network.client_proof import (
    NO_TOKEN,
    VERSION,
    Auth,
    Challenge,
    check_proof,
    prove,
    refusal,
)
from swarmharness.network.errors import (
    DialTimeout,
    IdentityMismatch,
    ProtocolViolation,
    Unreachable,
    VersionMismatch,
)
from swarmharness.network.records import RecordKind, close_in, record
from swarmharness.network.transport.tls_channel import TlsChannel
from swarmharness.network.transport.tls_context import APPLICATION_PROTOCOL

_VERSION_ALERTS = frozenset(
    (
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNSUPPORTED_PROTOCOL",
        "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        "NO_APPLICATION_PROTOCOL",
    )
)

Admission = Callable[[TlsChannel, NodeId, bytes], None]
"""Gives an authenticated channel its next sink, after WELCOME; raises to refuse it."""


@final
class AcceptorHandshake:
    """Sends a challenge, takes exactly one answer."""

    def __init__(
        self,
        key: Signer,
        network_id: NetworkId,
        nonce: bytes,
        admit: Admission,
    ) -> None:
        self._key = key
        self._network_id = network_id
        self._nonce = nonce
        self._admit = admit
        self.channel: TlsChannel

    def opened(self) -> None:
        if self.channel.application_protocol() != APPLICATION_PROTOCOL:
            raise VersionMismatch(
                f"{node_id_short(self._key.node_id)} speaks {APPLICATION_PROTOCOL} only."
            )
        challenge = Challenge(VERSION, self._nonce).encode()
        self.channel.send(record(RecordKind.CHALLENGE, challenge))

    def record(self, kind: int, payload: memoryview) -> None:
        if kind != RecordKind.AUTH:
            raise ProtocolViolation(f"A record of kind {kind} came before the proof.")
        auth = Auth.decode(payload)
        check_proof(auth, self._network_id, self._key.node_id, self._nonce)
        self._admit(self.channel, auth.client_id, auth.token)

    def writable(self) -> None:
        """Handshake records fit any buffer; nobody waits here."""

    def lost(self, error: Exception | None) -> None:
        """Strangers come and go; the transport counts their channels."""


@final
class DialerHandshake:
    """`result` is the authenticated channel, whose sink `welcomed` has replaced, or the error."""

    def __init__(
        self,
        key: Signer,
        network_id: NetworkId,
        peer: NodeId,
        address: Address,
        welcomed: Callable[[TlsChannel], None],
        *,
        token: bytes = NO_TOKEN,
    ) -> None:
        self._key = key
        self._network_id = network_id
        self._peer = peer
        self._address = address
        self._welcomed = welcomed
        self._token = token
        self._challenged = False
        self.channel: TlsChannel
        self.result: asyncio.Future[TlsChannel] = asyncio.get_running_loop().create_future()

    def opened(self) -> None:
        if self.channel.application_protocol() != APPLICATION_PROTOCOL:
            raise VersionMismatch(f"{self._address} does not speak {APPLICATION_PROTOCOL}.")
        certificate = self.channel.certificate()
        if not is_certificate_of(self._peer, certificate):
            actual = node_id_in(certificate)
            name = node_id_short(actual) if actual else "no node of a swarm"
            raise IdentityMismatch(
                f"{self._address} is {name}, not {node_id_short(self._peer)}.",
                data={"actual": actual.hex() if actual else None},
            )

    def record(self, kind: int, payload: memoryview) -> None:
        if kind == RecordKind.CHALLENGE and not self._challenged:
            self._challenged = True
            challenge = Challenge.decode(payload)
            if challenge.version != VERSION:
                raise VersionMismatch(
                    f"{node_id_short(self._peer)} speaks version {challenge.version} of the "
                    f"handshake, this node {VERSION}."
                )
            auth = prove(self._key, self._network_id, self._peer, challenge.nonce, self._token)
            self.channel.send(record(RecordKind.AUTH, auth.encode()))
        elif kind == RecordKind.WELCOME and self._challenged:
            if self.result.done():
                self.channel.abort()
                return
            self.channel.trust()
            self._welcomed(self.channel)
            self.result.set_result(self.channel)
        elif kind == RecordKind.CLOSE:
            raise refusal(*close_in(payload))
        else:
            raise ProtocolViolation(
                f"{self._address} sent a record of kind {kind} during the handshake."
            )

    def writable(self) -> None:
        """Handshake records fit any buffer; nobody waits here."""

    def lost(self, error: Exception | None) -> None:
        if not self.result.done():
            self.result.set_exception(self._explain(error))

    def _explain(self, error: Exception | None) -> SwarmError:
        name = node_id_short(self._peer)
        match error:
            case SwarmError():
                return error
            case ssl.SSLError() if error.reason in _VERSION_ALERTS:
                return VersionMismatch(
                    f"{self._address} and this node share no TLS version or protocol "
                    f"({error.reason})."
                )
            case ssl.SSLError():
                return IdentityMismatch(
                    f"What answers at {self._address} cannot prove to be {name}: "
                    f"{error.reason or 'TLS failed'}."
                )
            case TimeoutError() if not error.errno:
                return DialTimeout(f"{name} at {self._address}: {error}")
            case _:
                return Unreachable(
                    f"{self._address} closed the connection during the handshake with {name}"
                    f"{f': {error}' if error else ''}."
                )
