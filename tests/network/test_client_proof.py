import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import DEVELOPMENT_NETWORK, NetworkId
from swarmharness.kernel.signing import KeyPair, is_signed_by, signed_preimage
from swarmharness.network.client_proof import (
    NO_TOKEN,
    PURPOSE,
    REFUSED,
    Auth,
    Challenge,
    check_proof,
    proof_payload,
    prove,
    refusal,
    refusal_code,
)
from swarmharness.network.errors import (
    ConnectionLost,
    IdentityMismatch,
    LimitExceeded,
    NetworkMismatch,
    ProtocolViolation,
    VersionMismatch,
)

CLIENT, SERVER, MIDDLE = (KeyPair(bytes([n]) * 32) for n in (1, 2, 3))
NONCE = b"n" * 32
OTHER_NETWORK = NetworkId(b"o" * 32)


def auth(**changes):
    return prove(CLIENT, DEVELOPMENT_NETWORK, SERVER.node_id, NONCE)._replace(**changes)


def check(proof, *, nonce=NONCE):
    check_proof(proof, DEVELOPMENT_NETWORK, SERVER.node_id, nonce)


def test_an_honest_proof_holds_and_survives_the_wire():
    proof = prove(CLIENT, DEVELOPMENT_NETWORK, SERVER.node_id, NONCE, b"t" * 16)
    assert Auth.decode(proof.encode()) == proof
    assert len(proof.encode()) <= 512
    check(proof)
    assert auth().token == NO_TOKEN
    assert Challenge.decode(Challenge(1, NONCE).encode()) == Challenge(1, NONCE)


def test_the_signature_covers_network_acceptor_dialer_and_nonce_in_this_order():
    payload = DEVELOPMENT_NETWORK + SERVER.node_id + CLIENT.node_id + NONCE
    assert payload == proof_payload(DEVELOPMENT_NETWORK, SERVER.node_id, CLIENT.node_id, NONCE)
    assert is_signed_by(CLIENT.node_id, "tls-client-auth", payload, auth().signature)
    assert signed_preimage(PURPOSE, b"").startswith(b"swarmharness/tls-client-auth/v1\0")


def test_a_proof_made_for_a_node_in_the_middle_does_not_serve_elsewhere():
    relayed = prove(CLIENT, DEVELOPMENT_NETWORK, MIDDLE.node_id, NONCE)
    with pytest.raises(IdentityMismatch, match="did not prove"):
        check(relayed)


def test_a_proof_for_another_nonce_is_refused():
    with pytest.raises(IdentityMismatch):
        check(auth(), nonce=b"m" * 32)


def test_a_stranger_s_network_is_named_and_a_forged_network_claim_fails_the_signature():
    elsewhere = prove(CLIENT, OTHER_NETWORK, SERVER.node_id, NONCE)
    with pytest.raises(NetworkMismatch, match=f"dialer in {OTHER_NETWORK.hex()[:8]}"):
        check(elsewhere)
    with pytest.raises(IdentityMismatch):
        check(elsewhere._replace(network_id=DEVELOPMENT_NETWORK))


def test_one_s_own_id_is_refused_even_with_a_true_signature():
    mirrored = prove(SERVER, DEVELOPMENT_NETWORK, SERVER.node_id, NONCE)
    with pytest.raises(IdentityMismatch, match="itself"):
        check(mirrored)


def test_a_signature_under_another_label_is_refused():
    payload = proof_payload(DEVELOPMENT_NETWORK, SERVER.node_id, CLIENT.node_id, NONCE)
    with pytest.raises(IdentityMismatch):
        check(auth(signature=CLIENT.sign("tls-server-auth", payload)))
    with pytest.raises(IdentityMismatch):
        check(auth(signature=CLIENT.sign_unlabelled(payload)))


def test_another_handshake_version_is_refused_first():
    with pytest.raises(VersionMismatch, match="the dialer 9"):
        check(auth(version=9, signature=b"\0" * 64))


@given(st.integers(1, 144), st.integers(1, 255))
def test_any_changed_byte_of_an_answer_but_the_token_is_refused(at, change):
    wire = bytearray(auth().encode())
    wire[at] ^= change
    proof = Auth.decode(bytes(wire))
    if proof.token != NO_TOKEN:
        check(proof)
        return
    with pytest.raises(SwarmError):
        check(proof)


def test_each_refusal_reaches_the_dialer_as_its_own_class():
    for code, kind in REFUSED.items():
        assert refusal_code(kind("Why.")) == code
        assert type(refusal(code, "Why.")) is kind
    assert type(refusal(4711, "")) is ConnectionLost
    assert refusal(4711, "").sentence == "Refused with code 4711."
    assert REFUSED[refusal_code(LimitExceeded("Full."))] is ProtocolViolation
