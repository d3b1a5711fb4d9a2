"""The installer is the operator's pip, run in a sandbox that reaches only the package index.

Theory of operation. Three questions are answered on this side of the wall: where pip is, what the
operator configured, and which hosts follow from that. The installation itself runs confined: it
sees the interpreter, pip, and local sources read-only; it writes one directory; its only way out
is the egress proxy. Wheels only: nothing that was downloaded is executed.

The directory it leaves behind is hostile until looked at. It is judged after every process in the
sandbox is dead, without following a link, and the node never writes into it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import socket
import stat
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final

import msgspec

from swarmharness.kernel.clock import Clock
from swarmharness.skills.egress_log import EgressLog, Outcome
from swarmharness.skills.environment_plan import (
    EnvironmentPlan,
    Interpreter,
    PackageSources,
    failure_words,
    fold_name,
    installer_arguments,
    local_source,
    network_rules,
    package_sources,
)
from swarmharness.skills.errors import EnvironmentFailed, SandboxProtocolBroken
from swarmharness.skills.network_policy import NetworkPolicy
from swarmharness.skills.sandbox import mounts
from swarmharness.skills.sandbox.confinement import MIB, Confinement, Mount
from swarmharness.skills.sandbox.egress import EgressProxy, receive_listener
from swarmharness.skills.sandbox.egress_relay import EgressLimits
from swarmharness.skills.sandbox.launch import launch
from swarmharness.skills.sandbox.process import SandboxProcess
from swarmharness.skills.sandbox.tiers import Tier

SITE = "site"  # below the writable directory: the packages
SCRATCH = "scratch"  # below it: the installer's temporary files, on disk and not in memory

OUTPUT_BYTES = 4 * 1024  # of the installer's last words, kept as the reason
WORDS_LENGTH = 160  # characters of the reason inside one sentence
NOT_REACHED_LIMIT = 8  # hosts named in a failure; the first one is usually the reason
SETTINGS_SECONDS = 30.0  # asking pip takes 0.3 s
_WATCH_SECONDS = 0.5  # between looks at the size; a fast disk fills 1 GiB in about one
_ENV_TARGET = "/opt/env"
_PIP_TARGET = "/opt/installer"
_CERTIFICATES_TARGET = "/opt/certificates.pem"
_SOURCE_TARGET = "/opt/packages"
_PROXY = "http://127.0.0.1:3128"


@final
class InstallLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one environment may take."""

    seconds: float = 600.0
    """Downloading a large wheel over a slow line."""
    bytes: int = 1024 * MIB
    """On disk, temporary files included."""
    files: int = 100_000
    """The largest scientific stacks have about 30 000."""
    memory_bytes: int = 1024 * MIB
    """pip unpacks wheels in memory; the largest take a few hundred MiB."""


@final
class InstallerSettings(msgspec.Struct, frozen=True):
    """The operator's own configuration of pip, as pip itself understands it."""

    options: dict[str, str]
    default_index: str
    default_file_host: str

    def sources(self) -> PackageSources:
        return package_sources(
            self.options,
            default_index=self.default_index,
            default_file_host=self.default_file_host,
        )


def this_interpreter() -> Interpreter:
    """The one that runs the node and, mounted elsewhere, every sandbox."""
    return Interpreter(
        implementation=sys.implementation.name,
        version=f"{sys.version_info[0]}.{sys.version_info[1]}",
        abi=str(sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag),
        platform=sysconfig.get_platform(),
        libc="-".join(platform.libc_ver()),
    )


def find_pip() -> Path:
    """The package's directory, or the wheel that the interpreter brings for `ensurepip`."""
    spec = importlib.util.find_spec("pip")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).resolve().parent
    places = [sysconfig.get_config_var("WHEEL_PKG_DIR")]
    bundled = importlib.util.find_spec("ensurepip")
    if bundled is not None and bundled.origin is not None:
        places.append(str(Path(bundled.origin).parent / "_bundled"))
    for place in filter(None, places):
        wheels = sorted(Path(place).glob("pip-*.whl"))
        if wheels:
            return wheels[-1].resolve()
    raise EnvironmentFailed(
        "There is no pip in this Python installation, so no packages can be installed.",
        hint="Install it: python -m ensurepip, or sudo apt-get install python3-pip-whl",
    )


async def read_settings() -> InstallerSettings:
    """Asks pip in a process of its own: the node does not load it."""
    pip = find_pip()
    script = Path(__file__).with_name("installer_settings.py")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-B", str(script), str(pip.parent if pip.is_dir() else pip)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SETTINGS_SECONDS):
            said, complaint = await child.communicate()
        return msgspec.json.decode(said, type=InstallerSettings)
    except TimeoutError:
        child.kill()
        await child.wait()
        raise EnvironmentFailed(
            f"pip did not tell its configuration within {SETTINGS_SECONDS:.0f} s."
        ) from None
    except msgspec.DecodeError:
        words = failure_words(complaint.decode(errors="replace"), WORDS_LENGTH)
        raise EnvironmentFailed(f"pip did not tell its configuration: {words}") from None
    except asyncio.CancelledError:
        child.kill()
        await child.wait()
        raise


@final
class Installer:
    """Installs plans, one sandbox each."""

    def __init__(
        self,
        *,
        tier: Tier,
        clock: Clock,
        limits: InstallLimits,
        settings: InstallerSettings,
        extra_rules: Iterable[str] = (),
    ) -> None:
        self._tier = tier
        self._limits = limits
        self._sources = settings.sources()
        self._policy = NetworkPolicy.parse(
            [*network_rules(self._sources), *extra_rules], names_may_be_private=True
        )
        self._log = EgressLog(clock)
        self._places: dict[str, str] = {}
        self._mounts: list[Mount] = []

    async def install(self, plan: EnvironmentPlan, work: Path) -> None:
        """Fill `work/site`. Raises `EnvironmentFailed` with the installer's own reason."""
        if not self._tier.has_namespaces:
            raise EnvironmentFailed(
                "Packages are installed in a sandbox with namespaces only; this machine has none.",
                hint="`swarm status` tells what this machine lacks for a full sandbox.",
            )
        self._show_sources()
        pip = find_pip()
        pip_target = f"{_PIP_TARGET}/{'pip' if pip.is_dir() else pip.name}"
        confinement = Confinement(
            mounts=(
                *mounts.base_mounts(),
                *self._mounts,
                Mount(str(pip), pip_target),
                Mount(str(work), _ENV_TARGET, writable=True),
            ),
            scratch_bytes=self._limits.bytes,
            fsize=self._limits.bytes,
            data_bytes=self._limits.memory_bytes,
            low_priority=False,  # the owner granted this and waits for it
        )
        host, guest = socket.socketpair()
        with host:
            host.settimeout(0)
            with guest:
                process = await launch(
                    confinement,
                    argv=mounts.guest_argv("install", str(guest.fileno())),
                    pass_fds=[guest.fileno()],
                    tier=self._tier,
                )
            reason = ""
            try:
                await self._run(process, host, self._orders(process, plan, pip_target), work)
            except TimeoutError:
                reason = f"it took longer than {self._limits.seconds:g} s"
            except (SandboxProtocolBroken, OSError):
                reason = "its sandbox ended before it was ready"
            finally:
                await process.kill()
        await self._judge(plan, process, work, reason)

    @property
    def _has_network(self) -> bool:
        return bool(self._policy.rules)

    def _show_sources(self) -> None:
        certificates = self._sources.certificates
        if certificates and Path(certificates).is_file():
            self._mounts.append(Mount(os.path.realpath(certificates), _CERTIFICATES_TARGET))
            self._places[certificates] = _CERTIFICATES_TARGET
        elif certificates:
            raise EnvironmentFailed(
                f"pip is configured with certificates that are not there: {certificates}."
            )
        shown: dict[str, str] = {}
        for location in (*self._sources.indexes, *self._sources.links):
            local = local_source(location)
            if local is None:
                continue
            source = os.path.realpath(Path(local.shown).expanduser())
            if not Path(source).exists():
                continue
            if source not in shown:
                shown[source] = f"{_SOURCE_TARGET}/{len(shown)}"
                self._mounts.append(Mount(source, shown[source]))
            below = f"/{local.below}" if local.below else ""
            self._places[location] = shown[source] + below

    def _orders(self, process: SandboxProcess, plan: EnvironmentPlan, pip_target: str) -> bytes:
        arguments = installer_arguments(
            plan,
            self._sources,
            target=process.inside(f"{_ENV_TARGET}/{SITE}"),
            places={name: process.inside(place) for name, place in self._places.items()},
            proxy=_PROXY if self._has_network else "",
        )
        orders = {
            "arguments": arguments,
            "installer": process.inside(pip_target),
            "proxy": self._has_network,
            "scratch": process.inside(f"{_ENV_TARGET}/{SCRATCH}"),
        }
        return msgspec.json.encode(orders) + b"\n"

    async def _run(
        self, process: SandboxProcess, control: socket.socket, orders: bytes, work: Path
    ) -> None:
        limits = EgressLimits(bytes_each_way=self._limits.bytes)
        async with asyncio.timeout(self._limits.seconds):
            await asyncio.get_running_loop().sock_sendall(control, orders)
            listener = await receive_listener(control) if self._has_network else None
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self._watch(process, work))]
                if listener is not None:
                    proxy = EgressProxy(self._policy, self._log, limits=limits)
                    beside.append(group.create_task(proxy.serve(listener)))
                await process.wait()
                for task in beside:
                    task.cancel()

    async def _watch(self, process: SandboxProcess, work: Path) -> None:
        """Ends the sandbox while it grows; what is left is judged afterwards."""
        while True:
            if self._is_over(await asyncio.to_thread(measure, work, self._limits)):
                await process.kill()
                return
            await asyncio.sleep(_WATCH_SECONDS)

    def _is_over(self, size: tuple[int, int]) -> bool:
        return size[0] > self._limits.bytes or size[1] > self._limits.files

    async def _judge(
        self, plan: EnvironmentPlan, process: SandboxProcess, work: Path, reason: str
    ) -> None:
        if not reason and self._is_over(await asyncio.to_thread(measure, work, self._limits)):
            reason = (
                f"it needs more than {self._limits.bytes // MIB} MiB or {self._limits.files} files"
            )
        if reason or process.status != 0:
            raise self._failure(plan, process, reason)
        site = work / SITE
        try:
            mode = site.lstat().st_mode
        except FileNotFoundError:
            site.mkdir()  # every requirement was excluded by its own marker
            return
        if not stat.S_ISDIR(mode):
            raise self._failure(plan, process, "it left something that is not a directory")

    def _failure(
        self, plan: EnvironmentPlan, process: SandboxProcess, reason: str
    ) -> EnvironmentFailed:
        output = process.stderr_tail()[-OUTPUT_BYTES:]
        missed = sorted(
            {
                f"{decision.target} ({decision.outcome})"
                for decision in self._log.recent()
                if decision.outcome is not Outcome.ALLOWED
            }
        )[:NOT_REACHED_LIMIT]
        words = reason or failure_words(output, WORDS_LENGTH)
        return EnvironmentFailed(
            f"Installing {', '.join(plan.requirements)[:80]} failed: {words}"
            + (f"; not reached: {missed[0]}" if missed else ""),
            data={"output": output, "not_reached": missed},
        )


def measure(top: Path, limits: InstallLimits) -> tuple[int, int]:
    """Bytes and files below, no link followed; stops counting once over the limits."""
    size = files = 0
    pending: list[str] = [str(top)]
    while pending and size <= limits.bytes and files <= limits.files:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_size
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except FileNotFoundError:
            continue  # the installer moves things while this looks
    return size, files


def distributions(site: Path) -> Sequence[str]:
    """`name==version` of everything installed, from the directories that wheels leave."""
    stems = (path.name.removesuffix(".dist-info") for path in site.glob("*.dist-info"))
    parts = (stem.rpartition("-") for stem in stems)
    return sorted(f"{fold_name(name)}=={version}" for name, _, version in parts)
