"""An attach token lets one authenticated peer bind one more channel to its connection, once.

The token is no proof of identity: the new channel carries the full client proof of its own.
The token only says which connection, and which request, the channel belongs to; it is bound to
the peer that it was given to, dies when used, and expires.
"""

from __future__ import annotations

from collections import Counter
from typing import Generic, NamedTuple, TypeVar, final

from swarmharness.kernel.ids import NodeId
from swarmharness.network.errors import LimitExceeded

TOKENS_MAX = 4096  # unused ones of one node; 256 connections opening sixteen streams at once
TOKENS_PER_PEER_MAX = 256  # as many as one connection may have streams
TOKEN_LIFE_US = 15_000_000  # longer than a dial may take

K = TypeVar("K")
T = TypeVar("T")


class _Grant(NamedTuple, Generic[T]):
    peer: NodeId
    host: str
    expires_us: int
    purpose: T


@final
class AttachTokens(Generic[T]):
    """The unused tokens of one acceptor, oldest first."""

    def __init__(self) -> None:
        self._grants: dict[bytes, _Grant[T]] = {}
        self._at_host: Counter[str] = Counter()
        self._of_peer: Counter[NodeId] = Counter()

    def __len__(self) -> int:
        return len(self._grants)

    def promised_to(self, host: str) -> int:
        """How many channels may still come from there by leave."""
        return self._at_host[host]

    def issue(self, token: bytes, peer: NodeId, host: str, purpose: T, now_us: int) -> None:
        """Expired tokens make room first."""
        self._drop_expired(now_us)
        if len(self._grants) >= TOKENS_MAX or self._of_peer[peer] >= TOKENS_PER_PEER_MAX:
            raise LimitExceeded(
                f"{len(self._grants)} streams are already waiting to be attached, "
                f"{self._of_peer[peer]} of them for this peer."
            )
        assert token not in self._grants, "random tokens do not repeat"
        self._at_host[host] += 1
        self._of_peer[peer] += 1
        self._grants[token] = _Grant(peer, host, now_us + TOKEN_LIFE_US, purpose)

    def redeem(self, token: bytes, peer: NodeId, now_us: int) -> T | None:
        """None for a token that is unknown, used, expired or somebody else's."""
        self._drop_expired(now_us)
        grant = self._grants.get(token)
        if grant is None or grant.peer != peer:
            return None
        self.revoke(token)
        return grant.purpose

    def revoke(self, token: bytes) -> None:
        """The waiting side gave up; unknown tokens are fine, they were used meanwhile."""
        grant = self._grants.pop(token, None)
        if grant is None:
            return
        _lower(self._at_host, grant.host)
        _lower(self._of_peer, grant.peer)

    def _drop_expired(self, now_us: int) -> None:
        while self._grants:
            token, grant = next(iter(self._grants.items()))
            if grant.expires_us > now_us:
                return
            self.revoke(token)


def _lower(counter: Counter[K], key: K) -> None:
    """Zeros are dropped: strangers' addresses must not pile up."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
