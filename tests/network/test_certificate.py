import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.kernel.ids import NodeId
from swarmharness.kernel.signing import KeyPair
from swarmharness.network.certificate import (
    CERTIFICATE_BYTES,
    certificate_of,
    is_certificate_of,
    node_id_in,
    signed_part,
)
from swarmharness.network.transport.tls_context import acceptor_context

KEY = KeyPair(b"k" * 32)
OTHER = KeyPair(b"o" * 32)
GOLDEN_HEAD = (
    "3081ce308181a003020102020101300506032b65703010310e300c06035504030c05737761726d3020170d"
    "3230303130313030303030305a180f39393939313233313233353935395a3010310e300c06035504030c05"
    "737761726d302a300506032b6570032100"
)


def test_every_byte_but_key_and_signature_is_fixed():
    for key in (KEY, OTHER):
        der = certificate_of(key)
        assert len(der) == CERTIFICATE_BYTES == 209
        assert der.hex().startswith(GOLDEN_HEAD + key.node_id.hex() + "300506032b6570034100")


def test_a_tls_stack_loads_it_and_the_key_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    context = acceptor_context(KEY)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.num_tickets == 0
    assert list(tmp_path.iterdir()) == []


def test_the_key_file_is_private_while_it_exists(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []
    load = ssl.SSLContext.load_cert_chain

    def spy(self, name):
        (file,) = tmp_path.iterdir()
        seen.append(file.stat().st_mode & 0o777)
        load(self, name)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    acceptor_context(KEY)
    assert seen == [0o600]


def test_the_key_file_goes_even_if_loading_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(
        "swarmharness.network.transport.tls_context.key_and_certificate_pem", lambda _: b"no key"
    )
    with pytest.raises(ssl.SSLError):
        acceptor_context(KEY)
    assert list(tmp_path.iterdir()) == []


def test_only_the_exact_template_around_the_wanted_key_is_accepted():
    der = certificate_of(KEY)
    assert is_certificate_of(KEY.node_id, der)
    assert not is_certificate_of(OTHER.node_id, der)
    assert not is_certificate_of(KEY.node_id, None)
    assert not is_certificate_of(KEY.node_id, der + b"\0")
    assert not is_certificate_of(KEY.node_id, der[:-1])
    assert node_id_in(der) == KEY.node_id
    assert node_id_in(None) is None
    assert node_id_in(b"\x30" * CERTIFICATE_BYTES) is None


@given(st.integers(0, len(signed_part(KEY.node_id)) + 2), st.integers(1, 255))
def test_any_changed_byte_of_the_signed_part_is_noticed(at, change):
    der = bytearray(certificate_of(KEY))
    der[at] ^= change
    assert not is_certificate_of(KEY.node_id, bytes(der))


def test_a_foreign_certificate_that_carries_the_key_elsewhere_is_no_template():
    foreign = bytes.fromhex("3081ce") + signed_part(OTHER.node_id) + KEY.node_id + b"\0" * 42
    assert KEY.node_id in foreign
    assert not is_certificate_of(KEY.node_id, foreign[:CERTIFICATE_BYTES])


@given(st.binary(max_size=300))
def test_arbitrary_bytes_name_nobody(der):
    assert node_id_in(der) is None
    assert not is_certificate_of(NodeId(b"\1" * 32), der)
