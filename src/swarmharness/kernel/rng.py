"""An rng is a repeatable stream of draws that belongs to one seed, purpose and name.

Theory of operation. Block `n` of a stream is BLAKE2b of `n` under a key derived from the
seed, the purpose and the name. Streams share nothing, so a node that draws more, or is not
there at all, changes nobody else's draws: a smaller failing case keeps failing the same way.
All draws are integers, since floating-point functions differ between machines.

It is for simulation and for jitter. It is not for secrets: whoever knows the seed knows all.
"""

from __future__ import annotations

import hashlib
from collections.abc import MutableSequence, Sequence
from typing import Any, TypeVar, final

T = TypeVar("T")

BLOCK_BYTES = 64  # what one BLAKE2b call yields
WORD_BYTES = 8
PPM = 1_000_000
_WORD_SPAN = 1 << (8 * WORD_BYTES)


@final
class Rng:
    """One stream. The same arguments give the same draws on every machine and version."""

    __slots__ = ("_block", "_key", "_number", "_offset")

    def __init__(self, seed: int, purpose: str, name: bytes | str = b"") -> None:
        raw_name = name.encode() if isinstance(name, str) else name
        key = hashlib.blake2b(digest_size=BLOCK_BYTES)
        for part in (str(seed).encode(), purpose.encode(), raw_name):
            key.update(len(part).to_bytes(4, "big") + part)
        self._key = key.digest()
        self._block = b""
        self._offset = 0
        self._number = 0

    def word(self) -> int:
        """Uniform in 0 .. 2**64 - 1."""
        if self._offset == len(self._block):
            counter = self._number.to_bytes(WORD_BYTES, "big")
            self._block = hashlib.blake2b(counter, key=self._key).digest()
            self._number += 1
            self._offset = 0
        start = self._offset
        self._offset = start + WORD_BYTES
        return int.from_bytes(self._block[start : self._offset], "big")

    def below(self, limit: int) -> int:
        """Uniform in 0 .. limit - 1, without the bias of a plain remainder."""
        assert 0 < limit <= _WORD_SPAN
        fair = _WORD_SPAN - _WORD_SPAN % limit
        while (word := self.word()) >= fair:
            pass
        return word % limit

    def between(self, low: int, high: int) -> int:
        """Uniform, both ends included."""
        return low + self.below(high - low + 1)

    def happens(self, chance_ppm: int) -> bool:
        """True in `chance_ppm` of a million draws; draws even when the answer is certain."""
        return self.below(PPM) < chance_ppm

    def choice(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def shuffle(self, items: MutableSequence[Any]) -> None:
        """In place, every order equally likely."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]

    def bytes(self, count: int) -> bytes:
        """Whole words are drawn, so that `bytes` and `word` may be mixed freely."""
        words = -(-count // WORD_BYTES)
        return b"".join(self.word().to_bytes(WORD_BYTES, "big") for _ in range(words))[:count]
