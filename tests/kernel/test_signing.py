import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from swarmharness.kernel.ids import NodeId
from swarmharness.kernel.signing import (
    SIGNATURE_BYTES,
    KeyPair,
    Signer,
    is_signed_by,
    signed_preimage,
)

KEY = KeyPair(bytes(range(32)))
OTHER = KeyPair(b"\1" * 32)
repeatable = settings(derandomize=True, max_examples=50)


def test_the_preimage_is_label_and_payload():
    assert signed_preimage("receipt", b"abc") == b"swarmharness/receipt/v1\0abc"


@pytest.mark.parametrize("purpose", ["", "a\0b"])
def test_a_purpose_that_could_be_confused_is_our_bug(purpose):
    with pytest.raises(AssertionError):
        signed_preimage(purpose, b"")


def test_no_two_purposes_and_payloads_share_a_preimage():
    assert signed_preimage("a", b"b/v1\0c") != signed_preimage("a/v1", b"c")


def test_key_and_signature_are_fixed_for_all_time():
    """RFC 8032 is deterministic; another implementation of it stands beside."""
    reference = SigningKey(bytes(range(32)))
    assert KEY.node_id == bytes(reference.verify_key)
    signed = reference.sign(b"swarmharness/test/v1\0payload").signature
    assert KEY.sign("test", b"payload") == signed
    assert len(signed) == SIGNATURE_BYTES


def test_the_first_vector_of_rfc_8032():
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    pair = KeyPair(seed)
    assert pair.node_id.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert pair.sign_unlabelled(b"").hex().startswith("e5564300c360ac729086e2cc806e828a")


@repeatable
@given(payload=st.binary(max_size=500), purpose=st.from_regex(r"[a-z/-]{1,20}", fullmatch=True))
def test_a_signature_holds_for_its_key_purpose_and_payload_only(payload, purpose):
    signature = KEY.sign(purpose, payload)
    assert is_signed_by(KEY.node_id, purpose, payload, signature)
    assert not is_signed_by(OTHER.node_id, purpose, payload, signature)
    assert not is_signed_by(KEY.node_id, purpose + "x", payload, signature)
    assert not is_signed_by(KEY.node_id, purpose, payload + b"x", signature)


@repeatable
@given(bit=st.integers(0, 8 * SIGNATURE_BYTES - 1))
def test_no_bit_of_a_signature_may_change(bit):
    signature = bytearray(KEY.sign("test", b"payload"))
    signature[bit // 8] ^= 1 << bit % 8
    assert not is_signed_by(KEY.node_id, "test", b"payload", bytes(signature))


@repeatable
@given(signature=st.binary(max_size=130), key=st.binary(max_size=40))
def test_bad_bytes_are_refused_and_never_raise(signature, key):
    assert not is_signed_by(NodeId(key), "test", b"payload", signature)


def test_a_key_of_small_order_signs_nothing():
    forged = bytes([1]) + bytes(63)
    for key in (bytes(32), bytes([1]) + bytes(31)):
        assert not is_signed_by(NodeId(key), "test", b"any", forged)


def test_the_unlabelled_form_covers_the_bare_message():
    signature = KEY.sign_unlabelled(b"0message")
    VerifyKey(KEY.node_id).verify(b"0message", signature)
    with pytest.raises(BadSignatureError):
        VerifyKey(KEY.node_id).verify(b"0massage", signature)


def test_a_key_pair_is_a_signer_and_hides_its_secret():
    signer: Signer = KEY
    assert signer.node_id == KEY.node_id
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY) == "KeyPair(…)"


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_has_32_bytes(length):
    with pytest.raises(AssertionError):
        KeyPair(bytes(length))
