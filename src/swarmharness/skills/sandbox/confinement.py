"""A confinement says what one sandbox may see, write and use; whatever it does not name is denied.

It is a plain value, decided before anything starts. Paths have two names: the *source* on this
machine and the *target* that the guest sees. The two never meet in what the guest is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import final

import msgspec

MIB = 1024 * 1024

DATA_BYTES = 512 * MIB  # RLIMIT_DATA, never AS: AS=1 GiB allowed only 18 threads, DATA 61
NPROC = 64  # processes and threads; a numeric library starts one per core
SHARED_NPROC = 1024  # what the sandbox's user may start beside it before the kernel's limit bites
NOFILE = 256  # descriptors; half of the common default is plenty for one handler
SCRATCH_BYTES = 64 * MIB  # temporary files; it is memory, so it counts against the owner
SHM_BYTES = 1 * MIB  # /dev/shm must exist, but Landlock refuses it anyway
TOTAL_BYTES = 1024 * MIB  # resident memory of the whole sandbox, held by the watchdog
STDERR_BYTES = 64 * 1024  # the last words of a dying process, not a log
INFO_BYTES = 4 * 1024  # bwrap's description of the namespaces has about 200 bytes
MAX_MOUNTS = 96  # the base has under ten, a skill at most 64 beside it; each is a launcher's line

SCRATCH_TARGET = "/tmp"  # noqa: S108  it is the guest's own: a private, sized tmpfs
CONFINEMENT_VARIABLE = "SWARM_CONFINEMENT"
GUEST_UID = 65534  # what the guest believes to be: nobody


@final
class Mount(msgspec.Struct, frozen=True):
    """One file or directory of this machine, shown to the guest under another name."""

    source: str
    target: str
    writable: bool = False


@final
class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one sandbox is granted."""

    mounts: tuple[Mount, ...] = ()
    environment: dict[str, str] = {}
    scratch_bytes: int = SCRATCH_BYTES
    cpu_seconds: int | None = None
    """For each forked call; None where the host's meter counts (a worker's limit is cumulative)."""
    data_bytes: int = DATA_BYTES
    nproc: int = NPROC
    nofile: int = NOFILE
    fsize: int = SCRATCH_BYTES
    low_priority: bool = True
    """Other people's work runs only on what the owner's own work leaves idle."""

    def __post_init__(self) -> None:
        assert len(self.mounts) <= MAX_MOUNTS, f"more than {MAX_MOUNTS} mounts"
        for mount in self.mounts:
            assert mount.source.startswith("/"), f"mount source {mount.source} is relative"
            assert mount.target.startswith("/"), f"mount target {mount.target} is relative"
        targets = sorted(mount.target + "/" for mount in self.mounts)
        for outer, inner in pairwise(targets):
            # Making the inner mount point would write into the outer one's source.
            assert not inner.startswith(outer), f"mount target {inner} lies inside {outer}"


def visible_path(paths: Mapping[str, str], target: str) -> str:
    """Where a target, or a path below one, really is; unchanged if none of `paths` leads to it."""
    for known, visible in paths.items():
        if target == known or target.startswith(known + "/"):
            return visible + target[len(known) :]
    return target


@final
class GuestLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a confinement that the guest applies to itself, before any foreign code.

    It travels as JSON in the environment; `guest/confine.py` reads it with the standard library.
    """

    cpu_seconds: int | None
    data_bytes: int
    nproc: int
    nofile: int
    fsize: int
    low_priority: bool
    scratch: str
    writable: tuple[str, ...]
    readable: tuple[str, ...]
    """Only where no mount namespace hides the rest; empty means that reading is not limited."""
    lifeline: int
    """A descriptor that ends when the node does."""
    landlock: bool
    """Switched off only by tests that prove what Landlock alone prevents."""


def guest_limits(
    confinement: Confinement,
    *,
    scratch: str,
    writable: tuple[str, ...],
    lifeline: int,
    readable: tuple[str, ...] = (),
    nproc: int | None = None,
    landlock: bool = True,
) -> GuestLimits:
    """`nproc` differs from the confinement's where the system counts other processes too."""
    return GuestLimits(
        cpu_seconds=confinement.cpu_seconds,
        data_bytes=confinement.data_bytes,
        nproc=confinement.nproc if nproc is None else nproc,
        nofile=confinement.nofile,
        fsize=min(confinement.fsize, confinement.scratch_bytes),
        low_priority=confinement.low_priority,
        scratch=scratch,
        writable=writable,
        readable=readable,
        lifeline=lifeline,
        landlock=landlock,
    )
