"""Launching starts one sandbox: it turns a confinement into running, confined processes.

Theory of operation. In the tiers with namespaces the way is: daemon, (root launcher,) bubblewrap,
namespace init, guest. In tier 2: daemon, (root launcher,) subreaper, guest. All orders go through
descriptors, because they may hold granted secrets and every command line is public; bubblewrap
itself starts with an empty environment, since its init's would be readable inside.

Bubblewrap asks to die with the node only after it has built the namespaces. A node that ends in
those milliseconds would leave a sandbox behind, so the guest holds a *lifeline*, a pipe whose
other end is the node's: if that has ended when the guest confines itself, so does the guest. What
remains is an instant in which bubblewrap itself can be left waiting in an empty namespace, for ever
but before any guest.

What runs before the guest's first instruction is decided here; what the guest must add (limits,
priority, Landlock) travels in its environment and is applied by `guest/confine.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final

import msgspec

from swarmharness.skills.errors import SandboxUnavailable
from swarmharness.skills.sandbox import mounts, seccomp
from swarmharness.skills.sandbox.confinement import (
    CONFINEMENT_VARIABLE,
    GUEST_UID,
    INFO_BYTES,
    SCRATCH_TARGET,
    SHARED_NPROC,
    SHM_BYTES,
    Confinement,
    guest_limits,
    visible_path,
)
from swarmharness.skills.sandbox.process import SandboxProcess
from swarmharness.skills.sandbox.scratch import ScratchDirectory
from swarmharness.skills.sandbox.tiers import Tier
from swarmharness.skills.sandbox.uid_slots import UidSlot, take_uid_slot

START_SECONDS = 5.0  # a cold sandbox takes 0.1 s; a machine under full load, ten times that
BWRAP_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin")  # never from PATH: others may set it
NEUTRAL_DIRECTORIES = ("/mnt", "/media", "/srv", "/opt")
"""The first that exists is where the root launcher binds; hidden from nobody but the sandbox."""
_BWRAP_FLAGS = (
    *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
    *("--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
    *("--clearenv", "--hostname", "sandbox", "--uid", str(GUEST_UID), "--gid", str(GUEST_UID)),
)
_CAP_SYS_ADMIN = 1 << 21


@final
class Switches(msgspec.Struct, frozen=True, kw_only=True):
    """Mechanisms that only the attack tests turn off, to prove what each alone prevents."""

    seccomp: bool = True
    landlock: bool = True


def find_bwrap() -> str | None:
    """Only system directories count: a package of the same name elsewhere is an unrelated toy."""
    for directory in BWRAP_DIRECTORIES:
        path = f"{directory}/bwrap"
        if os.access(path, os.X_OK):
            return path
    return None


async def launch(
    confinement: Confinement,
    *,
    argv: Sequence[str],
    pass_fds: Iterable[int] = (),
    tier: Tier,
    switches: Switches = Switches(),  # noqa: B008  frozen
) -> SandboxProcess:
    """Start `argv` (paths as the guest sees them) in a new sandbox.

    Descriptors in `pass_fds` keep their numbers. Standard input and output are null.
    """
    if tier is Tier.NONE:
        raise SandboxUnavailable("This machine has no sandbox, so nothing is run.")
    start = _Start(confinement, tier, switches)
    try:
        outer = start.spawn(list(argv), tuple(pass_fds))
    except BaseException:
        start.close_info()
        start.release()
        raise
    process = SandboxProcess(
        outer, tier=tier, uid=start.uid, paths=start.paths, at_end=start.release
    )
    if tier.has_namespaces:
        try:
            await _learn_init(process, start.info)
        finally:
            start.close_info()
    return process


@final
class _Start:
    """What one launch holds; `release` gives it back when the sandbox has ended."""

    def __init__(self, confinement: Confinement, tier: Tier, switches: Switches) -> None:
        self._confinement = confinement
        self._tier = tier
        self._switches = switches
        self._slot: UidSlot | None = take_uid_slot() if os.geteuid() == 0 else None
        self.uid = self._slot.uid if self._slot else os.geteuid()
        self._binds: list[list[str]] = []
        self._neutral = ""
        if self._slot is not None and _may_mount():
            self._neutral = next(path for path in NEUTRAL_DIRECTORIES if Path(path).is_dir())
            self._binds = [
                [mount.source, self._neutral + mount.target] for mount in confinement.mounts
            ]
        self._lifeline, self._lifeline_end = os.pipe()
        self._descriptors: list[int] = [self._lifeline]
        self._scratch: ScratchDirectory | None = None
        self.info = -1
        self.paths: dict[str, str] = {}

    def spawn(self, argv: list[str], pass_fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        try:
            if self._slot is None:
                self._check_sources()
            command = self._bwrap(argv) if self._tier.has_namespaces else self._subreaper(argv)
            environment = {} if self._tier.has_namespaces else self._guest_environment()
            if self._slot is not None:
                command = self._drop_root(self._slot.uid, command, environment)
            return subprocess.Popen(  # noqa: S603  a fixed program, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
                cwd="/",
                pass_fds=(*pass_fds, *self._descriptors),
                bufsize=0,
            )
        except OSError as error:
            raise SandboxUnavailable(f"The sandbox did not start: {error}.") from error
        finally:
            for descriptor in self._descriptors:
                os.close(descriptor)

    def close_info(self) -> None:
        if self.info >= 0:
            os.close(self.info)
            self.info = -1

    def release(self) -> None:
        os.close(self._lifeline_end)
        if self._scratch is not None:
            self._scratch.remove()
        if self._slot is not None:
            self._slot.release()

    def _check_sources(self) -> None:
        """Bubblewrap binds only after it has named its init, when the launch counts as done.

        Where the node is root, the root launcher checks instead, as the user it becomes.
        """
        for mount in self._confinement.mounts:
            if not os.access(mount.source, os.R_OK):
                raise SandboxUnavailable(
                    f"The sandbox did not start: {mount.source} is missing or cannot be read."
                )

    def _bwrap(self, argv: list[str]) -> list[str]:
        bwrap = find_bwrap()
        if bwrap is None:
            raise SandboxUnavailable("bubblewrap is not installed.")
        confinement = self._confinement
        self.info, info_write = os.pipe()
        self._descriptors.append(info_write)
        arguments = [*_BWRAP_FLAGS, "--info-fd", str(info_write)]
        if self._switches.seccomp:
            arguments += ["--seccomp", str(self._send(seccomp.assemble(seccomp.program())))]
        arguments += mounts.bwrap_view()
        arguments += ["--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108  the guest's
        arguments += ["--remount-ro", "/dev"]
        if self._tier is not Tier.MASKED_PROC:
            arguments += ["--proc", "/proc"]
        arguments += ["--size", str(confinement.scratch_bytes), "--tmpfs", SCRATCH_TARGET]
        sources = self._visible_sources()
        for mount in confinement.mounts:
            how = "--bind" if mount.writable else "--ro-bind"
            arguments += [how, sources[mount.target], mount.target]
        arguments += ["--remount-ro", "/", "--chdir", SCRATCH_TARGET]
        for name, value in self._guest_environment().items():
            arguments += ["--setenv", name, value]
        orders = b"".join(argument.encode() + b"\0" for argument in arguments)
        return [bwrap, "--args", str(self._send(orders)), "--", *argv]

    def _subreaper(self, argv: list[str]) -> list[str]:
        self._scratch = ScratchDirectory(self.uid)
        sources = self._visible_sources()
        self.paths = {mount.target: sources[mount.target] for mount in self._confinement.mounts}
        self.paths[SCRATCH_TARGET] = self._scratch.path
        steps = seccomp.program(namespaces=False) if self._switches.seccomp else []
        program = seccomp.assemble(steps or seccomp.NO_PROGRAM)
        translated = [visible_path(self.paths, argument) for argument in argv]
        start = mounts.guest_argv("subreaper", str(os.getpid()), str(self._send(program)))
        return [*(visible_path(self.paths, argument) for argument in start), *translated]

    def _visible_sources(self) -> dict[str, str]:
        """By target: where the process that sets up the sandbox finds its source."""
        return {
            mount.target: self._neutral + mount.target if self._binds else mount.source
            for mount in self._confinement.mounts
        }

    def _nproc(self) -> int:
        """Without a user namespace, everything that the user runs counts against the limit.

        A user of the sandbox's own runs nothing else. The owner's own user starts and ends
        programs all the time, which must not starve a guest: the limit only stops an avalanche
        there, and the watchdog counts the tree.
        """
        others = _processes_of(self.uid)
        return self._confinement.nproc + others + (0 if self._slot else SHARED_NPROC)

    def _guest_environment(self) -> dict[str, str]:
        scratch = SCRATCH_TARGET if self._scratch is None else self._scratch.path
        sources = self._visible_sources()
        here = not self._tier.has_namespaces
        writable = tuple(
            sources[mount.target] if here else mount.target
            for mount in self._confinement.mounts
            if mount.writable
        )
        limits = guest_limits(
            self._confinement,
            scratch=scratch,
            writable=writable,
            lifeline=self._lifeline,
            readable=self._readable(scratch, sources) if here else (),
            nproc=self._nproc() if here else None,
            landlock=self._switches.landlock,
        )
        relocated = {
            name: visible_path(self.paths, value)
            for name, value in mounts.python_environment().items()
        }
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": scratch,
            "TMPDIR": scratch,
            "LANG": "C.UTF-8",
            "MALLOC_ARENA_MAX": "2",
            **relocated,
            **self._confinement.environment,
            CONFINEMENT_VARIABLE: msgspec.json.encode(limits).decode(),
        }

    def _readable(self, scratch: str, sources: dict[str, str]) -> tuple[str, ...]:
        """To import a package, Python lists the directory that it is in."""
        packages = [self._neutral] if self._binds else []
        if not packages and mounts.GUEST_TARGET in sources:
            packages = [str(Path(sources[mounts.GUEST_TARGET]).parent)]
        return (*mounts.landlock_view(), scratch, *sources.values(), *packages)

    def _drop_root(self, uid: int, command: list[str], environment: dict[str, str]) -> list[str]:
        orders = {
            "parent": os.getpid(),
            "uid": uid,
            "neutral": self._neutral,
            "binds": self._binds,
            "readable": list(self._visible_sources().values()),
            "argv": command,
            "environment": environment,
        }
        launcher = Path(__file__).with_name("root_launcher.py")
        descriptor = self._send(json.dumps(orders).encode())
        python = os.path.realpath(sys.executable)
        return [python, "-I", "-S", "-B", str(launcher), str(descriptor)]

    def _send(self, data: bytes) -> int:
        """A descriptor from which the child reads `data`."""
        descriptor = os.memfd_create("swarm", os.MFD_CLOEXEC)
        self._descriptors.append(descriptor)
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor


async def _learn_init(process: SandboxProcess, info: int) -> None:
    """Bubblewrap names its namespace's init as soon as it exists."""
    reading = asyncio.ensure_future(_read_named_init(info))
    try:
        pid = await asyncio.shield(reading)
    except asyncio.CancelledError:
        # Killing the outer process alone would leave the init it is about to name without a parent.
        if (pid := await reading) != 0:
            process.adopt_init(pid)
        await process.kill()
        raise
    if pid == 0:
        await process.kill()
        words = process.stderr_tail().strip().splitlines()
        raise SandboxUnavailable(
            f"The sandbox did not start: {words[-1] if words else 'no reason was given'}.",
            hint="`swarm status` tells which protection this machine lacks and what to install.",
        )
    process.adopt_init(pid)


async def _read_named_init(info: int) -> int:
    """0 if nothing, or nothing understandable, was said in time."""
    try:
        async with asyncio.timeout(START_SECONDS):
            text = await _read_info(info)
        return int(json.loads(text)["child-pid"])
    except (TimeoutError, ValueError, KeyError, TypeError):
        return 0


async def _read_info(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    text = b""
    os.set_blocking(descriptor, False)
    loop.add_reader(descriptor, ready.set)
    try:
        while len(text) < INFO_BYTES:
            await ready.wait()
            ready.clear()
            try:
                data = os.read(descriptor, INFO_BYTES)
            except BlockingIOError:
                continue
            if not data:
                break
            text += data
    finally:
        loop.remove_reader(descriptor)
    return text


def _may_mount() -> bool:
    """Whether this process holds the capability to mount: root of a container often does not."""
    return bool(_effective_capabilities() & _CAP_SYS_ADMIN)


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _processes_of(uid: int) -> int:
    """Threads of that user on the whole machine: without a user namespace they all count."""
    count = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        fields = dict(line.partition(":")[::2] for line in status.splitlines())
        if int(fields["Uid"].split()[0]) == uid:
            count += int(fields["Threads"])
    return count
