import os
import socket

import pytest

from swarmharness.skills.errors import SandboxUnavailable
from swarmharness.skills.sandbox import launch as launching
from swarmharness.skills.sandbox import probe as probing
from swarmharness.skills.sandbox.launch import Switches, find_bwrap
from swarmharness.skills.sandbox.probe import probe
from swarmharness.skills.sandbox.report import Finding, SandboxReport
from swarmharness.skills.sandbox.tiers import Tier

REQUIRED = os.environ.get("SWARM_REQUIRE_TIER", "")


def _without_bwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "find_bwrap", lambda: None)
    monkeypatch.setattr(launching, "find_bwrap", lambda: None)


async def _full_tier() -> SandboxReport:
    report = await probe(allow_tier2=True)
    if REQUIRED:
        assert report.tier.value == REQUIRED, report
    if report.tier is not Tier.FULL:
        pytest.skip(f"NOT COVERED: this machine has only tier {report.tier.value}: {report.fix}")
    return report


async def test_this_machine() -> None:
    report = await _full_tier()
    assert all(finding.passed for finding in report.findings)
    assert len(report.findings) == 8
    assert report.require() is Tier.FULL
    assert report.fix == ""
    words = report.summary().split(" · ")
    assert words[0] == "sandbox tier 1 full"
    assert words[1].startswith("bwrap 0.")
    assert words[2:] == [
        f"seccomp {report.seccomp_steps}",
        f"landlock {report.landlock_abi}",
        "memory: watchdog",
        f"uid {report.uid}",
    ]
    assert report.uid != 0, "a sandbox is never root"


async def test_a_sandbox_without_landlock_is_no_full_tier() -> None:
    await _full_tier()
    report = await probe(allow_tier2=True, switches=Switches(landlock=False))
    assert report.tier is Tier.NONE
    failed = {(f.tier, f.trial, f.got) for f in report.findings if not f.passed}
    assert (Tier.FULL, "signal the process that forked it", "done") in failed
    assert (Tier.LANDLOCK_ONLY, "read a key of this machine", "done") in failed


async def test_a_sandbox_without_seccomp_lets_the_hypervisor_be_reached() -> None:
    await _full_tier()
    try:
        socket.socket(40, socket.SOCK_STREAM).close()
    except OSError:
        pytest.skip("NOT COVERED: this kernel has no AF_VSOCK")
    report = await probe(allow_tier2=True, switches=Switches(seccomp=False))
    assert report.tier is Tier.NONE
    failed = {(f.tier, f.trial, f.got) for f in report.findings if not f.passed}
    assert (Tier.FULL, "open a socket to the hypervisor", "done") in failed


async def test_tier_2_only_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    await _full_tier()
    _without_bwrap(monkeypatch)
    allowed = await probe(allow_tier2=True)
    assert allowed.tier is Tier.LANDLOCK_ONLY
    assert allowed.summary().startswith("sandbox tier 2 no namespaces · seccomp ")
    assert "bubblewrap" in allowed.fix
    refused = await probe(allow_tier2=False)
    assert refused.tier is Tier.NONE
    with pytest.raises(SandboxUnavailable, match="not installed") as caught:
        refused.require()
    assert caught.value.hint == "Install bubblewrap: sudo apt-get install bubblewrap"
    assert refused.summary() == (
        "sandbox tier 0 none · no skill is run"
        " · Install bubblewrap: sudo apt-get install bubblewrap"
    )


async def test_a_container_that_hides_proc_gets_a_sandbox_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await _full_tier()
    sandbox = launching.launch

    async def refuse_proc(*arguments: object, tier: Tier, **rest: object) -> object:
        if tier is Tier.FULL:
            raise SandboxUnavailable("bwrap: Can't mount proc on /newroot/proc")
        return await sandbox(*arguments, tier=tier, **rest)

    monkeypatch.setattr(probing, "launch", refuse_proc)
    report = await probe()
    assert report.tier is Tier.MASKED_PROC
    assert report.findings[0] == Finding(
        Tier.FULL, "start", "started", "bwrap: Can't mount proc on /newroot/proc", passed=False
    )


@pytest.mark.parametrize(
    ("name", "got", "landlock", "passed"),
    [
        ("usr", "done", 7, True),
        ("usr", "EACCES", 7, False),
        ("usr", "no answer", 7, False),
        ("key", "ENOENT", 7, True),
        ("key", "done", 7, False),
        ("key", "no answer", 7, False),
        ("parent", "done", 7, False),
        ("parent", "done", 5, True),
        ("parent", "no answer", 5, False),
    ],
)
def test_what_passes(name: str, got: str, landlock: int, passed: bool) -> None:
    assert probing._judge(Tier.FULL, name, got, landlock).passed is passed


def test_an_old_landlock_is_not_enough_alone() -> None:
    assert not probing._judge(Tier.LANDLOCK_ONLY, "parent", "done", 5).passed


def test_a_program_elsewhere_in_the_path_is_not_bubblewrap(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_bwrap() in (None, "/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap")
