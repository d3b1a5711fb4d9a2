"""The intake of an attempt is what its executor has sent so far, held to what an honest one sends.

Whoever reads the updates may have to keep them until the end, so what one attempt can make it keep
is bounded here, before anything large is fetched. Chunks are not: a stream may be as long as its
reader likes, and a reader that falls behind holds the executor up.
"""

from __future__ import annotations

from typing import final

from swarmharness.kernel.errors import MalformedMessage
from swarmharness.skills.sandbox.transcript import MAX_ARTIFACT_BYTES, MAX_ARTIFACTS


@final
class AttemptIntake:
    """Each method raises `MalformedMessage` for what breaks the rules."""

    def __init__(self) -> None:
        self._chunks = 0
        self._artifacts: set[str] = set()
        self._artifact_bytes = 0

    def chunk(self, n: int) -> None:
        """Chunks are numbered from zero, without gaps."""
        if n != self._chunks:
            raise MalformedMessage(f"The executor sent chunk {n} where {self._chunks} was due.")
        self._chunks += 1

    def artifact(self, name: str, size_bytes: int) -> None:
        """An executor's own sandbox enforces the same limits."""
        if name in self._artifacts:
            raise MalformedMessage(f"The executor sent the artifact {name} twice.")
        self._artifacts.add(name)
        self._artifact_bytes += size_bytes
        if len(self._artifacts) > MAX_ARTIFACTS or self._artifact_bytes > MAX_ARTIFACT_BYTES:
            raise MalformedMessage(
                f"The executor sends more than {MAX_ARTIFACTS} artifacts or"
                f" {MAX_ARTIFACT_BYTES} bytes of them."
            )
