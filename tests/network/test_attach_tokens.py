import pytest

from swarmharness.kernel.ids import NodeId
from swarmharness.network.attach_tokens import (
    TOKEN_LIFE_US,
    TOKENS_MAX,
    TOKENS_PER_PEER_MAX,
    AttachTokens,
)
from swarmharness.network.errors import LimitExceeded

ALICE, BOB = NodeId(b"a" * 32), NodeId(b"b" * 32)


def token(number):
    return number.to_bytes(16, "big")


def test_a_token_works_once_and_only_for_its_peer():
    tokens = AttachTokens()
    tokens.issue(token(1), ALICE, "10.0.0.1", "why", now_us=0)
    assert tokens.promised_to("10.0.0.1") == 1
    assert tokens.redeem(token(1), BOB, now_us=1) is None
    assert tokens.redeem(token(1), ALICE, now_us=1) == "why"
    assert tokens.redeem(token(1), ALICE, now_us=1) is None
    assert tokens.promised_to("10.0.0.1") == 0


def test_a_token_expires_at_its_time_and_not_before():
    tokens = AttachTokens()
    tokens.issue(token(1), ALICE, "h", "first", now_us=0)
    tokens.issue(token(2), ALICE, "h", "second", now_us=1)
    assert tokens.redeem(token(1), ALICE, now_us=TOKEN_LIFE_US) is None
    assert tokens.redeem(token(2), ALICE, now_us=TOKEN_LIFE_US) == "second"


def test_a_revoked_token_is_worthless_and_revoking_twice_is_fine():
    tokens = AttachTokens()
    tokens.issue(token(1), ALICE, "h", "why", now_us=0)
    tokens.revoke(token(1))
    tokens.revoke(token(1))
    assert tokens.redeem(token(1), ALICE, now_us=0) is None
    assert len(tokens) == 0


def test_one_peer_cannot_take_all_and_expired_tokens_make_room():
    tokens = AttachTokens()
    for number in range(TOKENS_PER_PEER_MAX):
        tokens.issue(token(number), ALICE, "h", "why", now_us=0)
    with pytest.raises(LimitExceeded, match=f"{TOKENS_PER_PEER_MAX} of them for this peer"):
        tokens.issue(token(9999), ALICE, "h", "why", now_us=0)
    tokens.issue(token(9999), BOB, "h", "why", now_us=0)
    tokens.issue(token(9998), ALICE, "h", "why", now_us=TOKEN_LIFE_US)
    assert len(tokens) == 1


def test_all_peers_together_are_bounded():
    tokens = AttachTokens()
    for number in range(TOKENS_MAX):
        peer = NodeId((number // TOKENS_PER_PEER_MAX).to_bytes(32, "big"))
        tokens.issue(token(number), peer, "h", "why", now_us=0)
    with pytest.raises(LimitExceeded, match=f"{TOKENS_MAX} streams"):
        tokens.issue(token(TOKENS_MAX), BOB, "h", "why", now_us=0)
