"""A network policy is the list of hosts and ports that the operator lets one skill reach.

Theory of operation. A skill asks in `network.allow`, the operator grants, and the granted rules
become a policy. It is asked twice about every connection, because a name and an address are
different claims:

1. `judge_name`: is this host, at this port, on the list?
2. `choose_addresses`: of the addresses that the name has *now*, which may be dialled?

Whoever controls a listed name also controls its addresses, and would point it at the owner's
router, printer or cloud metadata service. So an address that is not part of the public internet
is refused unless that very address stands on the list as a literal. The caller resolves once and
dials what was judged here: asking the resolver a second time would let the answer change between
the check and the use (DNS rebinding).

Addresses wear disguises: IPv4 inside IPv6, `127.1`, `0x7f000001`, a zone id. Each is unwrapped
or refused here; the list of special networks is our own, because the standard library's differs
between the Python versions we support.

A rule is `host:port` or `*.host:port`. The star stands for one or more labels and not for the
bare host. What this cannot see: a permitted host that forwards to others (domain fronting).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Self, final

import msgspec

from swarmharness.skills.errors import BadNetworkRule

RULE_LIMIT = 64  # rules in one policy; longer lists are nobody's conscious grant
HOST_LIMIT = 253  # characters; the longest name that DNS can carry
DIAL_LIMIT = 4  # addresses tried for one connection: two families, twice
PORT_MAX = 65_535
_WILDCARD_LABELS = 2  # `*.com` would grant a registry's whole zone

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[0-9]{1,5}")

Address = IPv4Address | IPv6Address

# IANA special-purpose registry, and what is reachable only inside one provider's machines.
_SPECIAL_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "168.63.129.16/32",  # a cloud's metadata service on a public-looking address
    )
)
_PUBLIC_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
_TRANSLATED_V6 = IPv6Network("64:ff9b::/96")  # IPv4 behind a NAT64 gateway


class Refusal(StrEnum):
    """Why a connection was not made."""

    HOST_UNLISTED = "host_unlisted"
    PORT_UNLISTED = "port_unlisted"
    ADDRESS_PRIVATE = "address_private"


@final
class Destination(msgspec.Struct, frozen=True):
    """Where a connection wants to go; the host is lower case, an address in its one spelling."""

    host: str
    port: int

    @property
    def literal(self) -> Address | None:
        """The address itself when the host is one."""
        return _as_address(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@final
class Rule(msgspec.Struct, frozen=True):
    """One granted destination; with `wildcard`, every name below `host`."""

    host: str
    port: int
    wildcard: bool = False

    def covers(self, host: str) -> bool:
        """Names and literals compare in their normal form."""
        return host.endswith("." + self.host) if self.wildcard else host == self.host


@final
class NetworkPolicy(msgspec.Struct, frozen=True):
    """All rules of one skill. The empty policy refuses everything."""

    rules: tuple[Rule, ...] = ()
    names_may_be_private: bool = False
    """Only where the operator, and no skill, chose the names: a package mirror in the own house."""

    @classmethod
    def parse(cls, texts: Iterable[str], *, names_may_be_private: bool = False) -> Self:
        """`BadNetworkRule` names the rule that cannot be meant."""
        rules = tuple(dict.fromkeys(parse_rule(text) for text in texts))
        if len(rules) > RULE_LIMIT:
            raise BadNetworkRule(f"{len(rules)} network rules; a skill has at most {RULE_LIMIT}.")
        return cls(rules, names_may_be_private)

    def judge_name(self, destination: Destination) -> Refusal | None:
        """None: the name and the port are listed together."""
        covering = [rule for rule in self.rules if rule.covers(destination.host)]
        if not covering:
            return Refusal.HOST_UNLISTED
        if all(rule.port != destination.port for rule in covering):
            return Refusal.PORT_UNLISTED
        return None

    def choose_addresses(self, resolved: Sequence[Address], port: int) -> tuple[Address, ...]:
        """Those that may be dialled, in the resolver's order; empty: `ADDRESS_PRIVATE`."""
        allowed = dict.fromkeys(
            address for address in map(_unwrap, resolved) if self._may_dial(address, port)
        )
        return tuple(allowed)[:DIAL_LIMIT]

    def _may_dial(self, address: Address, port: int) -> bool:
        if self.names_may_be_private or is_public(address):
            return True
        return Rule(str(address), port) in self.rules


def parse_rule(text: str) -> Rule:
    """`host:port` or `*.host:port`; an IPv6 literal stands in brackets."""
    wildcard = text.startswith("*.")
    destination = parse_authority(text[2:] if wildcard else text)
    if destination is None:
        raise BadNetworkRule(f"{text[:80]!r} is not host:port or *.host:port.")
    address = destination.literal
    if wildcard and (address is not None or destination.host.count(".") + 1 < _WILDCARD_LABELS):
        raise BadNetworkRule(f"{text[:80]!r}: a star needs a name of two labels or more after it.")
    if address is not None and (address.is_unspecified or address.is_multicast):
        raise BadNetworkRule(f"{text[:80]!r} is not the address of one machine.")
    return Rule(destination.host, destination.port, wildcard)


def parse_authority(text: str, default_port: int | None = None) -> Destination | None:
    """None for anything that is not exactly one host and one port; credentials are refused."""
    if text.startswith("["):
        host, closed, tail = text[1:].partition("]")
        if not closed or ":" not in host or (tail and not tail.startswith(":")):
            return None
        port_text = tail[1:] if tail else None
    else:
        host, colon, after = text.partition(":")
        port_text = after if colon else None
    normal = _normal_host(host)
    port = default_port if port_text is None else _parse_port(port_text)
    return None if normal is None or port is None else Destination(normal, port)


def is_public(address: Address) -> bool:
    """Part of the internet that everyone can reach: not this machine's neighbourhood."""
    address = _unwrap(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address in _TRANSLATED_V6:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _PUBLIC_V6 and not any(address in network for network in _SPECIAL_V6)


def _unwrap(address: Address) -> Address:
    """The kernel connects a mapped address over IPv4, so it is judged as IPv4."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _parse_port(text: str) -> int | None:
    port = int(text) if _PORT.fullmatch(text) else 0
    return port if 0 < port <= PORT_MAX else None


def _normal_host(text: str) -> str | None:
    """A resolver reads `127.1` and `0x7f000001` as addresses; here only dotted quads are."""
    address = _as_address(text)
    if address is not None:
        return None if getattr(address, "scope_id", None) else str(_unwrap(address))
    if not text.isascii():
        return None
    host = text.lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > HOST_LIMIT or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    return None if _NUMERIC_LABEL.fullmatch(labels[-1]) else host


def _as_address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
