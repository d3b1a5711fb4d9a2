"""A tier says how strong the sandbox is that this machine can give.

The order of the members is the order of strength. Tier 0 runs nothing.
"""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """Which mechanisms hold."""

    FULL = "1"
    """Namespaces by bubblewrap, seccomp, Landlock with signal scope (ABI 6)."""
    UNSCOPED = "1b"
    """Namespaces and seccomp; Landlock too old to keep a call from signalling its zygote."""
    MASKED_PROC = "1c"
    """As 1 or 1b inside a container that hides parts of /proc: the guest has no /proc at all."""
    LANDLOCK_ONLY = "2"
    """No user namespaces: Landlock and seccomp alone. No network, no GPU, only if allowed."""
    NONE = "0"
    """Nothing that would protect the owner: every call is refused."""

    @property
    def has_namespaces(self) -> bool:
        return self in (Tier.FULL, Tier.UNSCOPED, Tier.MASKED_PROC)
