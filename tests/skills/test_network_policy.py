"""Which destinations a granted rule reaches, and every disguise that must not pass."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmharness.skills.errors import BadNetworkRule
from swarmharness.skills.network_policy import (
    DIAL_LIMIT,
    RULE_LIMIT,
    Destination,
    NetworkPolicy,
    Refusal,
    Rule,
    is_public,
    parse_authority,
    parse_rule,
)

PUBLIC = ip_address("93.184.215.14")


def policy(*rules: str) -> NetworkPolicy:
    return NetworkPolicy.parse(rules)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("example.org:443", Rule("example.org", 443)),
        ("EXAMPLE.org.:443", Rule("example.org", 443)),
        ("*.example.org:443", Rule("example.org", 443, wildcard=True)),
        ("10.0.0.5:80", Rule("10.0.0.5", 80)),
        ("[2001:DB8::0:1]:80", Rule("2001:db8::1", 80)),
        ("[::ffff:10.0.0.5]:80", Rule("10.0.0.5", 80)),
        ("localhost:1", Rule("localhost", 1)),
        ("xn--bcher-kva.example:65535", Rule("xn--bcher-kva.example", 65535)),
    ],
)
def test_a_rule_is_kept_in_its_normal_form(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org",
        ":443",
        "example.org:",
        "example.org:0",
        "example.org:65536",
        "example.org:٤٤",
        "example.org:+1",
        "example.org:443/path",
        "https://example.org:443",
        "user@example.org:443",
        "a b:1",
        "*:443",
        "*.org:443",
        "*.10.0.0.1:443",
        "*.*.example.org:443",
        "ex*mple.org:443",
        "bücher.example:443",
        "\u212aelvin.example:443",
        "127.1:80",
        "0x7f000001:80",
        "2130706433:80",
        "0177.0.0.1:80",
        "1.2.3.4.5:80",
        "::1:80",
        "[::1:80",
        "[::1]80",
        "[::1]",
        "[1.2.3.4]:80",
        "[fe80::1%eth0]:80",
        "0.0.0.0:80",
        "[::]:80",
        "224.0.0.1:80",
        "[ff02::1]:80",
        "-a.example:1",
        "a" * 64 + ".example:1",
        ("a" * 60 + ".") * 5 + "example:1",
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadNetworkRule) as caught:
        parse_rule(text)
    assert repr(text[:80]) in caught.value.sentence


def test_a_policy_has_a_bounded_number_of_distinct_rules() -> None:
    same = ["example.org:443"] * (RULE_LIMIT + 1)
    assert len(NetworkPolicy.parse(same).rules) == 1
    with pytest.raises(BadNetworkRule, match="at most"):
        NetworkPolicy.parse(f"h{n}.example:443" for n in range(RULE_LIMIT + 1))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("example.org:443", None),
        ("Example.ORG.:443", None),
        ("example.org:80", Refusal.PORT_UNLISTED),
        ("www.example.org:443", Refusal.HOST_UNLISTED),
        ("example.org.evil.test:443", Refusal.HOST_UNLISTED),
        ("a.wild.test:8443", None),
        ("a.b.wild.test:8443", None),
        ("wild.test:8443", Refusal.HOST_UNLISTED),
        ("evilwild.test:8443", Refusal.HOST_UNLISTED),
        ("a.wild.test:443", Refusal.PORT_UNLISTED),
        ("192.168.1.1:80", None),
        ("[::ffff:192.168.1.1]:80", None),
        ("192.168.1.2:80", Refusal.HOST_UNLISTED),
    ],
)
def test_name_and_port_must_be_listed_together(target: str, expected: Refusal | None) -> None:
    granted = policy("example.org:443", "*.wild.test:8443", "192.168.1.1:80")
    destination = parse_authority(target)
    assert destination is not None
    assert granted.judge_name(destination) is expected


def test_the_empty_policy_refuses_everything() -> None:
    assert NetworkPolicy().judge_name(Destination("example.org", 443)) is Refusal.HOST_UNLISTED


NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "168.63.129.16",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_a_listed_name_never_leads_into_the_neighbourhood(text: str) -> None:
    granted = policy("example.org:443")
    assert not is_public(ip_address(text))
    assert granted.choose_addresses([ip_address(text)], 443) == ()


@pytest.mark.parametrize(
    "text", ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07::1", "64:ff9b::808:808", "172.32.0.1"]
)
def test_public_addresses_are_dialled_as_resolved(text: str) -> None:
    address = ip_address(text)
    assert policy("example.org:443").choose_addresses([address], 443) == (address,)


def test_a_private_address_is_reached_only_by_its_literal_and_its_port() -> None:
    granted = policy("intranet.test:443", "10.0.0.5:443")
    private, other = ip_address("10.0.0.5"), ip_address("10.0.0.6")
    assert granted.choose_addresses([other, private], 443) == (private,)
    assert granted.choose_addresses([ip_address("::ffff:10.0.0.5")], 443) == (private,)
    assert granted.choose_addresses([private], 80) == ()


def test_a_mixed_answer_keeps_only_what_may_be_dialled_and_is_bounded() -> None:
    granted = policy("example.org:443")
    many = [ip_address("127.0.0.1"), PUBLIC, PUBLIC] + [
        ip_address(f"8.8.8.{n}") for n in range(DIAL_LIMIT * 2)
    ]
    chosen = granted.choose_addresses(many, 443)
    assert chosen[0] == PUBLIC
    assert len(chosen) == len(set(chosen)) == DIAL_LIMIT
    assert all(is_public(address) for address in chosen)


def test_an_authority_without_a_port_takes_the_default_only() -> None:
    assert parse_authority("example.org", 80) == Destination("example.org", 80)
    assert parse_authority("[2001:db8::1]", 80) == Destination("2001:db8::1", 80)
    assert parse_authority("example.org") is None
    assert parse_authority("example.org:", 80) is None
    assert parse_authority("[::1]:", 80) is None


def test_a_destination_is_written_as_it_is_read() -> None:
    for text in ("example.org:443", "10.0.0.1:80", "[2001:db8::1]:443"):
        assert str(parse_authority(text)) == text


@settings(derandomize=True)
@given(st.text(max_size=80))
def test_any_text_is_a_destination_in_normal_form_or_nothing(text: str) -> None:
    destination = parse_authority(text)
    if destination is not None:
        assert parse_authority(str(destination)) == destination
        assert destination.host == destination.host.lower()
        assert 0 < destination.port <= 65_535


@settings(derandomize=True)
@given(st.ip_addresses())
def test_whatever_the_address_the_literal_rule_is_the_only_way_into_private_space(
    address: object,
) -> None:
    parsed = ip_address(str(address))
    reached = policy("example.org:443").choose_addresses([parsed], 443)
    assert bool(reached) == is_public(parsed)
