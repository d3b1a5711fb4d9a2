"""The probe runs a real sandbox and attacks it, before anything foreign may.

Theory of operation. Feature lists lie: a kernel may know user namespaces and a distribution may
forbid them; a container may hide /proc; a mechanism may be there and not work. So the probe
starts the strongest sandbox, lets its guest do what skills need (the controls) and try what they
must not (the canaries), and believes only the outcome. A control that fails or a canary that
gets through fails that tier, and the next weaker one is tried.

The canaries would succeed outside: the key file is open to every user of the machine, and the
listener really listens.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, final

from swarmharness.kernel.errors import SwarmError
from swarmharness.skills.sandbox import mounts, seccomp
from swarmharness.skills.sandbox.confinement import Confinement
from swarmharness.skills.sandbox.launch import Switches, find_bwrap, launch
from swarmharness.skills.sandbox.process import SandboxProcess
from swarmharness.skills.sandbox.report import Finding, SandboxReport
from swarmharness.skills.sandbox.tiers import Tier

__all__ = ["SandboxReport", "probe"]

SCOPE_ABI = 6  # the first Landlock that keeps signals inside
PROBE_NPROC = 16  # low, so that the fork canary is quick
PROBE_SECONDS = 20.0  # takes 0.1 s; a machine that needs longer cannot serve anyone
VERSION_SECONDS = 10.0  # for a program that prints one line
ANSWERS_BYTES = 64 * 1024  # a dozen answers of one line each
DONE = "done"
_NOT_RUN = "no answer"
_TRIALS = {
    "usr": ("read /usr", True),
    "scratch": ("write its own directory", True),
    "key": ("read a key of this machine", False),
    "loopback": ("reach a service of this machine", False),
    "parent": ("signal the process that forked it", False),
    "vsock": ("open a socket to the hypervisor", False),
    "forks": ("start processes without end", False),
    "mount": ("mount a file system", False),
}


@final
class _Trial(NamedTuple):
    """One tier's run."""

    findings: list[Finding]
    landlock_abi: int
    uid: int | None

    @property
    def passed(self) -> bool:
        return all(finding.passed for finding in self.findings)


async def probe(*, allow_tier2: bool = False, switches: Switches = Switches()) -> SandboxReport:  # noqa: B008  frozen
    """Tries from strong to weak; `switches` let the tests take a mechanism away."""
    findings: list[Finding] = []
    bwrap = _bwrap_version()
    for tier in (Tier.FULL, Tier.MASKED_PROC, Tier.LANDLOCK_ONLY):
        if tier.has_namespaces and not bwrap:
            if tier is Tier.FULL:
                findings.append(_finding(tier, "find bubblewrap", "installed", "not installed"))
            continue
        trial = await _try_tier(tier, switches)
        findings += trial.findings
        if not trial.passed:
            continue
        if tier is Tier.LANDLOCK_ONLY and not allow_tier2:
            findings.append(_finding(tier, "be allowed tier 2", "allowed", "not allowed"))
            continue
        weaker = tier is Tier.FULL and trial.landlock_abi < SCOPE_ABI
        steps = seccomp.program(namespaces=tier.has_namespaces)
        return SandboxReport(
            tier=Tier.UNSCOPED if weaker else tier,
            bwrap=bwrap,
            seccomp_steps=len(steps),
            landlock_abi=trial.landlock_abi,
            uid=trial.uid,
            findings=tuple(findings),
            fix="" if tier is Tier.FULL else _fix(bwrap),
        )
    return SandboxReport(tier=Tier.NONE, bwrap=bwrap, findings=tuple(findings), fix=_fix(bwrap))


async def _try_tier(tier: Tier, switches: Switches) -> _Trial:
    with _laid_out() as (orders, answers):
        argv = mounts.guest_argv("self_test", str(answers), json.dumps(orders))
        try:
            process = await launch(
                Confinement(mounts=mounts.base_mounts(), nproc=PROBE_NPROC),
                argv=argv,
                pass_fds=[answers],
                tier=tier,
                switches=switches,
            )
        except SwarmError as error:
            return _Trial([_finding(tier, "start", "started", error.sentence)], 0, None)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await process.wait()
        except TimeoutError:
            return _Trial([_finding(tier, "answer", "an echo", "nothing")], 0, process.uid)
        finally:
            await process.kill()
        got = _read_answers(answers, orders["echo"], process)
    if isinstance(got, str):
        return _Trial([_finding(tier, "answer", "an echo", got)], 0, process.uid)
    landlock = int(got["landlock"])
    findings = [_judge(tier, name, str(got.get(name, _NOT_RUN)), landlock) for name in _TRIALS]
    return _Trial(findings, landlock, process.uid)


def _judge(tier: Tier, name: str, got: str, landlock: int) -> Finding:
    words, allowed = _TRIALS[name]
    if name == "parent" and landlock < SCOPE_ABI and tier.has_namespaces:
        # Known and tolerated: the sandbox around both holds, and a dead zygote is replaced.
        return Finding(tier, words, "refused or done", got, got != _NOT_RUN)
    if name == "forks" and not tier.has_namespaces and os.geteuid() != 0:
        # The user's other programs count against the kernel's limit: the watchdog holds instead.
        return Finding(tier, words, "refused or done", got, got != _NOT_RUN)
    passed = got == DONE if allowed else got not in (DONE, _NOT_RUN)
    return Finding(tier, words, DONE if allowed else "refused", got, passed)


def _finding(tier: Tier, trial: str, expected: str, got: str) -> Finding:
    return Finding(tier, trial, expected, got, passed=False)


def _read_answers(descriptor: int, echo: str, process: SandboxProcess) -> dict[str, Any] | str:
    try:
        answers = json.loads(os.pread(descriptor, ANSWERS_BYTES, 0))
    except ValueError:
        words = process.stderr_tail().strip().splitlines()
        return words[-1] if words else f"ended with status {process.status}"
    if not isinstance(answers, dict) or answers.get("echo") != echo:
        return "a wrong echo"
    return answers


@contextmanager
def _laid_out() -> Iterator[tuple[dict[str, Any], int]]:
    """The victims, and a descriptor for the answers."""
    folder = Path(tempfile.mkdtemp(prefix="swarm-probe-"))
    answers = os.memfd_create("answers", os.MFD_CLOEXEC)
    try:
        folder.chmod(0o755)
        key = folder / "key"
        key.write_bytes(secrets.token_bytes(32))
        key.chmod(0o644)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            yield {"key": str(key), "port": port, "echo": secrets.token_hex(8)}, answers
    finally:
        os.close(answers)
        shutil.rmtree(folder)


def _bwrap_version() -> str:
    """Empty if it is missing or does not answer."""
    path = find_bwrap()
    if path is None:
        return ""
    try:
        answer = subprocess.run(  # noqa: S603  a fixed program of the system
            [path, "--version"], capture_output=True, text=True, check=True, timeout=VERSION_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.removeprefix("bubblewrap").strip()


def _fix(bwrap: str) -> str:
    """The most likely missing thing, as one line to type."""
    if sys.platform != "linux":
        return "Run the node on Linux (on Windows: inside WSL2)."
    if not bwrap:
        return "Install bubblewrap: sudo apt-get install bubblewrap"
    for switch, bad, command in (
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "kernel/unprivileged_userns_clone",
            "0",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        ("user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=10000"),
    ):
        setting = Path("/proc/sys", switch)
        if setting.exists() and setting.read_text(encoding="ascii").strip() == bad:
            return f"Allow user namespaces: {command}"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return (
            "Start the container with --security-opt seccomp=unconfined"
            " --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
        )
    return "bubblewrap 0.7 or newer and user namespaces are needed; see the findings."
