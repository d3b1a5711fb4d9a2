import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmharness.kernel.codec import decode, encode
from swarmharness.kernel.errors import Blame, SwarmError
from swarmharness.kernel.ids import NodeId, node_id_text
from swarmharness.network.address import (
    MAX_PORT,
    Address,
    NodeAddress,
    TransportKind,
    parse_address,
    parse_host_port,
    parse_node_address,
)
from swarmharness.network.errors import BadAddress

NODE = NodeId(bytes(range(32)))
TLS, MEMORY = TransportKind.TLS, TransportKind.MEMORY
repeatable = settings(derandomize=True, max_examples=300)

addresses = st.one_of(
    st.builds(
        Address,
        kind=st.just(TLS),
        host=st.one_of(
            st.ip_addresses().map(str), st.from_regex(r"[a-z0-9][a-z0-9.-]{0,60}", fullmatch=True)
        ),
        port=st.integers(0, MAX_PORT),
    ),
    st.builds(
        Address,
        kind=st.just(MEMORY),
        host=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    ),
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tls://127.0.0.1:4711", Address(TLS, "127.0.0.1", 4711)),
        ("tls://[::1]:4711", Address(TLS, "::1", 4711)),
        ("tls://[fe80::1%eth0]:1", Address(TLS, "fe80::1%eth0", 1)),
        ("tls://pc-7.example.org:65535", Address(TLS, "pc-7.example.org", 65535)),
        ("mem://a.b_c-1", Address(MEMORY, "a.b_c-1")),
    ],
)
def test_the_text_forms(text, address):
    assert parse_address(text) == address
    assert str(address) == text


@repeatable
@given(address=addresses)
def test_an_address_is_read_back(address):
    assert parse_address(str(address)) == address
    assert decode(Address, encode(address)) == address


@repeatable
@given(address=addresses, node_id=st.binary(min_size=32, max_size=32).map(NodeId))
def test_a_node_address_is_read_back(address, node_id):
    whole = NodeAddress(node_id, address)
    assert parse_node_address(str(whole)) == whole
    assert decode(NodeAddress, encode(whole)) == whole


def test_people_see_the_id_before_the_host():
    text = str(NodeAddress(NODE, Address(TLS, "::1", 1)))
    assert text == f"tls://{node_id_text(NODE)}@[::1]:1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no scheme"),
        ("127.0.0.1:1", "no scheme"),
        ("quic://127.0.0.1:1", "“quic”"),
        ("TLS://127.0.0.1:1", "“TLS”"),
        ("tls://", "no port"),
        ("tls://host", "no port"),
        ("tls://:1", "not a host name"),
        ("tls://::1:1", "brackets"),
        ("tls://[::1:1", "brackets"),
        ("tls://a b:1", "not a host name"),
        ("tls://a/b:1", "not a host name"),
        ("tls://a@b:1", "not a host name"),
        ("tls://" + "a" * 254 + ":1", "not a host name"),
        ("tls://host:", "not a port"),
        ("tls://host:-1", "not a port"),
        ("tls://host:65536", "not a port"),
        ("tls://host:٣", "not a port"),
        ("tls://host:1 ", "not a port"),
        ("tls://host:1_0", "not a port"),
        ("mem://", "not a name"),
        ("mem://a:b", "not a name"),
        ("mem://" + "a" * 65, "not a name"),
    ],
)
def test_what_is_wrong_is_said(text, says):
    with pytest.raises(BadAddress, match=says) as caught:
        parse_address(text)
    assert caught.value.blame is Blame.CALLER


@pytest.mark.parametrize("text", ["tls://host:1", "mem://a", "@", "tls://", f"{'a' * 56}@host:1"])
def test_a_node_address_without_a_node_is_refused(text):
    with pytest.raises(BadAddress, match="names no node"):
        parse_node_address(text)


def test_a_mistyped_id_in_an_address_is_noticed():
    text = str(NodeAddress(NODE, Address(TLS, "host", 1))).replace("a", "b", 1)
    with pytest.raises(SwarmError, match="checksum"):
        parse_node_address(text)


@repeatable
@given(text=st.one_of(st.text(max_size=80), st.text(max_size=40).map("tls://".__add__)))
def test_any_text_is_an_address_or_a_typed_refusal(text):
    for parse in (parse_address, parse_node_address, parse_host_port):
        try:
            parse(text)
        except SwarmError as refusal:
            assert refusal.blame is Blame.CALLER  # noqa: PT017  some are addresses


@repeatable
@given(digits=st.text("0123456789", min_size=1, max_size=5000))
def test_a_port_of_many_digits_is_refused(digits):
    try:
        assert 0 <= parse_host_port(f"host:{digits}")[1] <= MAX_PORT
    except BadAddress as refusal:
        assert "not a port" in refusal.sentence  # noqa: PT017  some are ports


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("example.org", False),
        ("0.0.0.0", False),
    ],
)
def test_loopback_is_known(host, is_loopback):
    assert Address(TLS, host, 1).is_loopback is is_loopback
