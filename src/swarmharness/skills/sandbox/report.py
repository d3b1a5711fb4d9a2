"""A sandbox report says which tier this machine gives, and what was tried to find out."""

from __future__ import annotations

from typing import final

import msgspec

from swarmharness.skills.errors import SandboxUnavailable
from swarmharness.skills.sandbox.tiers import Tier

_WORDS = {
    Tier.FULL: "full",
    Tier.UNSCOPED: "signals unscoped",
    Tier.MASKED_PROC: "no /proc",
    Tier.LANDLOCK_ONLY: "no namespaces",
    Tier.NONE: "none",
}


@final
class Finding(msgspec.Struct, frozen=True):
    """One thing that the probe tried, and what came of it."""

    tier: Tier
    trial: str
    expected: str
    got: str
    passed: bool


@final
class SandboxReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe found. `fix` is one line to type, empty when nothing is missing."""

    tier: Tier
    bwrap: str = ""
    seccomp_steps: int = 0
    landlock_abi: int = 0
    uid: int | None = None
    findings: tuple[Finding, ...] = ()
    fix: str = ""

    def summary(self) -> str:
        """The line of `swarm status`."""
        parts = [f"sandbox tier {self.tier.value} {_WORDS[self.tier]}"]
        if self.tier is Tier.NONE:
            return " · ".join([*parts, "no skill is run", self.fix])
        if self.tier.has_namespaces:
            parts.append(f"bwrap {self.bwrap}")
        parts.append(f"seccomp {self.seccomp_steps}")
        parts.append(f"landlock {self.landlock_abi}" if self.landlock_abi else "no landlock")
        parts += ["memory: watchdog", f"uid {self.uid}"]
        return " · ".join(parts)

    def require(self) -> Tier:
        """The tier to run in, or the refusal that says what is missing."""
        if self.tier is Tier.NONE:
            failed = [finding for finding in self.findings if not finding.passed]
            reason = f"{failed[0].trial}: {failed[0].got}" if failed else "nothing to try"
            raise SandboxUnavailable(
                f"This machine has no sandbox that protects its owner ({reason}).", hint=self.fix
            )
        return self.tier
