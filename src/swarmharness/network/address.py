"""An address says where a node may be reached; a node address also says who must answer there.

Text forms: `tls://host:port`, `mem://name`, and for people, with the id in front of the host,
`tls://ID@host:port`. An address is a hint and never an identity.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import final

import msgspec

from swarmharness.kernel.ids import NodeId, node_id_text, parse_node_id
from swarmharness.network.errors import BadAddress

MAX_PORT = 65535
_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class TransportKind(StrEnum):
    """The kinds of transport that exist."""

    MEMORY = "mem"
    TLS = "tls"


@final
class Address(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Where to dial. `port` is 0 for the memory transport, whose `host` is a plain name."""

    kind: TransportKind
    host: str
    port: int = 0

    def __str__(self) -> str:
        if self.kind is TransportKind.MEMORY:
            return f"mem://{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind.value}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@final
class NodeAddress(msgspec.Struct, frozen=True, array_like=True, order=True):
    """An address together with the node that must prove itself there."""

    node_id: NodeId
    address: Address

    def __str__(self) -> str:
        scheme, rest = str(self.address).split("://", 1)
        return f"{scheme}://{node_id_text(self.node_id)}@{rest}"


def parse_host_port(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPV6]:PORT`; port 0 asks the system for a free one."""
    host, colon, port_text = text.rpartition(":")
    if not colon:
        raise BadAddress(f"“{text}” has no port: HOST:PORT is needed.")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise BadAddress(f"“{text}”: an IPv6 address goes in brackets, as in [::1]:4711.")
    if not _HOST.fullmatch(host):
        raise BadAddress(f"“{host}” is not a host name or IP address.")
    if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > MAX_PORT:
        raise BadAddress(f"“{port_text}” is not a port between 0 and {MAX_PORT}.")
    return host, int(port_text)


def parse_address(text: str) -> Address:
    """The text form without an id."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise BadAddress(f"“{text}” has no scheme: tls://HOST:PORT is needed.")
    if scheme == TransportKind.MEMORY:
        if not _NAME.fullmatch(rest):
            raise BadAddress(f"“{rest}” is not a name on the memory transport.")
        return Address(TransportKind.MEMORY, rest)
    if scheme == TransportKind.TLS:
        return Address(TransportKind.TLS, *parse_host_port(rest))
    raise BadAddress(f"This version does not know addresses of the kind “{scheme}”.")


def parse_node_address(text: str) -> NodeAddress:
    """The form that `swarm status` prints and `--peer` takes."""
    scheme, separator, rest = text.partition("://")
    id_text, at, place = rest.partition("@")
    if not (separator and at):
        raise BadAddress(f"“{text}” names no node: tls://ID@HOST:PORT is needed.")
    return NodeAddress(parse_node_id(id_text), parse_address(f"{scheme}://{place}"))
