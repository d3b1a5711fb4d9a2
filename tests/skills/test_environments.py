"""Environments built for real, in real sandboxes, from wheels made on the spot."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import importlib.util
import json
import sysconfig
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from swarmharness.skills.environment_plan import Interpreter, plan_environment
from swarmharness.skills.errors import EnvironmentFailed, RequirementRefused
from swarmharness.skills.sandbox import installer as installing
from swarmharness.skills.sandbox import mounts
from swarmharness.skills.sandbox.confinement import MIB, Confinement, Mount
from swarmharness.skills.sandbox.environment_lock import EnvironmentLock
from swarmharness.skills.sandbox.environments import EnvironmentCache
from swarmharness.skills.sandbox.installer import (
    InstallerSettings,
    InstallLimits,
    find_pip,
    measure,
    read_settings,
    this_interpreter,
)
from swarmharness.skills.sandbox.launch import find_bwrap, launch
from swarmharness.skills.sandbox.tiers import Tier

sandboxed = pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap is not installed")


IMPORT_AND_WRITE = """
import sys
sys.path.insert(0, "/opt/env")
import tiny
sys.stderr.write(tiny.WORD + " ")
try:
    open("/opt/env/x", "w")
except OSError as error:
    sys.stderr.write(error.strerror)
"""


class StoppedClock:
    def now_us(self) -> int:
        return 0

    def wall_ms(self) -> int:
        return 1_700_000_000_000


def make_wheel(directory: Path, name: str = "tiny", version: str = "1.0", **files: bytes) -> Path:
    content = {f"{name}/__init__.py": b"WORD = 'hello from tiny'\n"}
    content |= {f"{name}/{file}.bin": data for file, data in files.items()}
    info = f"{name}-{version}.dist-info"
    content[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    )
    content[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(
        f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in content.items()
    )
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    directory.mkdir(parents=True, exist_ok=True)
    wheel = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            archive.writestr(path, data)
    directory.chmod(0o755)
    wheel.chmod(0o644)
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


class Operator:
    """An operator's pip configuration, and how often it was asked for."""

    def __init__(self, **options: str) -> None:
        self.options = {name.replace("_", "-"): value for name, value in options.items()}
        self.asked = 0

    async def __call__(self) -> InstallerSettings:
        self.asked += 1
        options = {f"global.{name}": value for name, value in self.options.items()}
        return InstallerSettings(options, "https://index.invalid/simple", "files.invalid")


def offline(wheels: Path) -> Operator:
    wheels.mkdir(exist_ok=True)
    return Operator(no_index="true", find_links=str(wheels))


def cache(tmp_path: Path, operator: Operator, **options: Any) -> EnvironmentCache:
    return EnvironmentCache(
        tmp_path / "environments",
        tier=Tier.FULL,
        clock=StoppedClock(),
        settings=operator,
        **options,
    )


def names(tmp_path: Path) -> list[str]:
    """What the cache directory holds, apart from locks."""
    found = (tmp_path / "environments").iterdir()
    return sorted(path.name for path in found if path.suffix != ".lock")


@sandboxed
async def test_an_environment_is_built_once_and_can_be_imported_in_a_sandbox(
    tmp_path: Path,
) -> None:
    make_wheel(tmp_path / "wheels")
    operator = offline(tmp_path / "wheels")
    environments = cache(tmp_path, operator)
    with await environments.acquire(["tiny"]) as environment:
        assert environment.distributions == ("tiny==1.0",)
        assert names(tmp_path) == [environment.key]
        assert (environment.path / "tiny" / "__pycache__").is_dir(), "compiled while writable"
        process = await launch(
            Confinement(mounts=(*mounts.base_mounts(), Mount(str(environment.path), "/opt/env"))),
            argv=[
                *mounts.python_argv(),
                "-c",
                IMPORT_AND_WRITE,
            ],
            tier=Tier.FULL,
        )
        assert await process.wait() == 0
        assert process.stderr_tail() == "hello from tiny Read-only file system"
    with await environments.acquire([" Tiny "]) as again:
        assert again.key == environment.key
    assert operator.asked == 1


@sandboxed
async def test_names_are_told_as_indexes_compare_them_and_the_cache_is_private(
    tmp_path: Path,
) -> None:
    make_wheel(tmp_path / "wheels", "Two_Words")
    with await cache(tmp_path, offline(tmp_path / "wheels")).acquire(["two.words"]) as found:
        assert found.distributions == ("two-words==1.0",)
    assert (tmp_path / "environments").stat().st_mode & 0o777 == 0o700


async def test_without_namespaces_nothing_is_installed_and_the_reason_is_told(
    tmp_path: Path,
) -> None:
    """Landlock alone cannot let pip change modes of its own files only."""
    environments = EnvironmentCache(
        tmp_path / "environments",
        tier=Tier.LANDLOCK_ONLY,
        clock=StoppedClock(),
        settings=offline(tmp_path / "wheels"),
    )
    with pytest.raises(EnvironmentFailed, match="with namespaces only"):
        await environments.acquire(["tiny"])
    assert names(tmp_path) == []


@sandboxed
async def test_two_nodes_that_want_the_same_build_it_once(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels")
    operator = offline(tmp_path / "wheels")
    both = await asyncio.gather(*(cache(tmp_path, operator).acquire(["tiny"]) for _ in range(2)))
    assert both[0].path == both[1].path
    assert operator.asked == 1
    for environment in both:
        environment.close()
        environment.close()


@sandboxed
async def test_a_failure_tells_pips_own_reason_and_a_later_try_succeeds(tmp_path: Path) -> None:
    environments = cache(tmp_path, offline(tmp_path / "wheels"))
    with pytest.raises(EnvironmentFailed, match="No matching distribution found for tiny") as told:
        await environments.acquire(["tiny"])
    assert "from versions: none" in told.value.data["output"]
    assert list((tmp_path / "environments").iterdir()) == []
    make_wheel(tmp_path / "wheels")
    (await environments.acquire(["tiny"])).close()


@sandboxed
async def test_only_wheels_are_installed_never_a_setup_script(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tiny-1.0.zip", "w") as archive:
        archive.writestr(
            "tiny-1.0/pyproject.toml",
            '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n',
        )
        archive.writestr("tiny-1.0/own.py", "raise SystemExit('executed')")
    with pytest.raises(EnvironmentFailed) as told:
        await cache(tmp_path, offline(wheels)).acquire(["tiny"])
    assert "No matching distribution" in told.value.sentence
    assert "executed" not in told.value.data["output"]


async def test_a_refused_requirement_starts_nothing(tmp_path: Path) -> None:
    operator = Operator()
    with pytest.raises(RequirementRefused):
        await cache(tmp_path, operator).acquire(["tiny @ https://evil.test/tiny.whl"])
    assert operator.asked == 0
    assert names(tmp_path) == []


# The index, through the egress proxy ------------------------------------------------------------


@asynccontextmanager
async def index(pages: dict[str, bytes], *, silent: bool = False) -> AsyncIterator[str]:
    """A package index on loopback; returns its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if silent:
            await reader.read()
        path = head.split()[1].decode()
        body = pages.get(path)
        kind = b"text/html" if path.endswith("/") else b"application/octet-stream"
        status = b"404 Not Found" if body is None else b"200 OK"
        body = body or b""
        writer.write(
            b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (status, kind, len(body), body)
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


@sandboxed
async def test_the_configured_index_is_reached_through_the_proxy(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "hidden")
    page = f'<html><body><a href="/files/{wheel.name}">{wheel.name}</a></body></html>'.encode()
    pages = {"/simple/tiny/": page, f"/files/{wheel.name}": wheel.read_bytes()}
    async with index(pages) as address:
        environments = cache(tmp_path, Operator(index_url=f"{address}/simple"))
        with await environments.acquire(["tiny"]) as environment:
            assert environment.distributions == ("tiny==1.0",)


@sandboxed
async def test_a_file_host_that_nobody_configured_is_named_and_can_be_allowed(
    tmp_path: Path,
) -> None:
    wheel = make_wheel(tmp_path / "hidden")
    async with index({f"/{wheel.name}": wheel.read_bytes()}) as files:
        page = f'<html><body><a href="{files}/{wheel.name}">x</a></body></html>'.encode()
        async with index({"/simple/tiny/": page}) as address:
            operator = Operator(index_url=f"{address}/simple")
            host = files.removeprefix("http://")
            with pytest.raises(EnvironmentFailed) as told:
                await cache(tmp_path, operator).acquire(["tiny"])
            assert told.value.data["not_reached"] == [f"{host} (port_unlisted)"]
            assert f"not reached: {host}" in told.value.sentence
            allowed = cache(tmp_path, operator, package_hosts=[host])
            (await allowed.acquire(["tiny"])).close()


# Limits ----------------------------------------------------------------------------------------


@sandboxed
async def test_an_environment_with_too_many_files_is_refused(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", **{f"part{n}": b"x" for n in range(60)})
    limits = InstallLimits(files=40)
    with pytest.raises(EnvironmentFailed, match="more than 1024 MiB or 40 files"):
        await cache(tmp_path, offline(tmp_path / "wheels"), limits=limits).acquire(["tiny"])
    assert names(tmp_path) == []


@sandboxed
async def test_a_small_archive_that_unpacks_to_a_lot_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels", bomb=bytes(48 * MIB))
    assert wheel.stat().st_size < MIB
    limits = InstallLimits(bytes=16 * MIB)
    with pytest.raises(EnvironmentFailed, match=r"File too large|more than 16 MiB"):
        await cache(tmp_path, offline(tmp_path / "wheels"), limits=limits).acquire(["tiny"])
    assert names(tmp_path) == []


@sandboxed
async def test_an_index_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async with index({}, silent=True) as address:
        limits = InstallLimits(seconds=1.5)
        environments = cache(tmp_path, Operator(index_url=address), limits=limits)
        with pytest.raises(EnvironmentFailed, match=r"longer than 1\.5 s"):
            await environments.acquire(["tiny"])
    assert list((tmp_path / "environments").iterdir()) == []


@sandboxed
async def test_a_cancelled_build_leaves_nothing(tmp_path: Path) -> None:
    async with index({}, silent=True) as address:
        environments = cache(tmp_path, Operator(index_url=address))
        building = asyncio.create_task(environments.acquire(["tiny"]))
        while not list(tmp_path.glob("environments/.temporary-*/*/scratch")):
            await asyncio.sleep(0.01)
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
    assert list((tmp_path / "environments").iterdir()) == []


# A hostile installer ----------------------------------------------------------------------------


def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    package = tmp_path / "fake" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(f"import os, sys, socket, json\n{program}\n")
    monkeypatch.setattr(installing, "find_pip", lambda: package)


@sandboxed
async def test_a_link_in_place_of_the_packages_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(tmp_path, monkeypatch, "os.symlink('/etc', '/opt/env/site')")
    with pytest.raises(EnvironmentFailed, match="not a directory"):
        await cache(tmp_path, offline(tmp_path / "wheels")).acquire(["tiny"])
    assert names(tmp_path) == []


@sandboxed
async def test_the_installer_reads_writes_and_reaches_nothing_of_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    fake_pip(
        tmp_path,
        monkeypatch,
        f"""
def attempt(what):
    try:
        return str(what())
    except OSError as error:
        return type(error).__name__
def ask(target):
    proxy = socket.create_connection(('127.0.0.1', 3128))
    proxy.sendall(b'CONNECT %s HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' % target)
    return proxy.recv(4096).split(b'\\r\\n')[0].decode()
said = dict(
    read=attempt(lambda: open({str(secret)!r}).read()),
    shadow=attempt(lambda: open('/etc/shadow').read()),
    write=attempt(lambda: open('/opt/py/x', 'w')),
    listed=ask(b'127.0.0.1:1'),
    unlisted=ask(b'127.0.0.1:2'),
    environment=sorted(name for name in os.environ if 'SWARM' in name),
)
sys.stderr.write(json.dumps(said))
sys.exit(1)
""",
    )
    with pytest.raises(EnvironmentFailed) as told:
        await cache(tmp_path, Operator(index_url="http://127.0.0.1:1/simple")).acquire(["tiny"])
    assert json.loads(told.value.data["output"]) == {
        "read": "FileNotFoundError",
        "shadow": "FileNotFoundError",
        "write": told_write(),
        "listed": "HTTP/1.1 502 unreachable",
        "unlisted": "HTTP/1.1 403 port_unlisted",
        "environment": [],
    }


def told_write() -> str:
    under_usr = not any(mount.target == "/opt/py" for mount in mounts.base_mounts())
    return "FileNotFoundError" if under_usr else "OSError"


def test_measuring_follows_no_link_and_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(bytes(1000))
    (tmp_path / "d" / "out").symlink_to("/usr")
    limits = InstallLimits()
    size, files = measure(tmp_path / "d", limits)
    assert (files, 1000 <= size < 1100) == (2, True)
    assert measure(Path("/usr"), InstallLimits(files=10))[1] < 10_000
    assert measure(tmp_path / "gone", limits) == (0, 0)


# The cache directory ----------------------------------------------------------------------------


@sandboxed
async def test_what_a_crash_left_is_removed_unless_its_builder_lives(tmp_path: Path) -> None:
    environments = cache(tmp_path, offline(tmp_path / "wheels"))
    home = tmp_path / "environments"
    for name in (".temporary-dead-01", ".temporary-alive-02"):
        (home / name / "work").mkdir(parents=True)
        (home / name / "work" / "half").write_text("x")
    builder = EnvironmentLock.try_take(home / "alive.lock", exclusive=True)
    assert builder is not None
    await environments.clean()
    assert names(tmp_path) == [".temporary-alive-02"]
    builder.release()
    await environments.clean()
    assert list(home.iterdir()) == []


@sandboxed
async def test_the_least_recently_used_goes_unless_it_is_in_use(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        make_wheel(tmp_path / "wheels", name)
    environments = cache(tmp_path, offline(tmp_path / "wheels"), count_limit=1)
    one = await environments.acquire(["one"])
    two = await environments.acquire(["two"])
    assert names(tmp_path) == sorted([one.key, two.key])
    one.close()
    three = await environments.acquire(["three"])
    assert names(tmp_path) == sorted([two.key, three.key])
    two.close()
    three.close()
    assert (await environments.acquire(["three"])).close() is None
    assert three.path.is_dir()


@sandboxed
async def test_the_environment_just_built_is_never_the_victim(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels")
    environments = cache(tmp_path, offline(tmp_path / "wheels"), bytes_limit=0)
    with await environments.acquire(["tiny"]) as environment:
        assert environment.path.is_dir()


@sandboxed
async def test_a_damaged_environment_is_built_anew(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels")
    operator = offline(tmp_path / "wheels")
    environments = cache(tmp_path, operator)
    with await environments.acquire(["tiny"]) as environment:
        stamp = environment.path.parent / "environment.json"
    stamp.write_text("{")
    with await environments.acquire(["tiny"]) as environment:
        assert environment.distributions == ("tiny==1.0",)
    assert operator.asked == 2


def test_a_lock_excludes_and_its_file_does_not_outlive_the_last_exclusive_holder(
    tmp_path: Path,
) -> None:
    path = tmp_path / "k.lock"
    shared = EnvironmentLock.try_take(path, exclusive=False)
    also = EnvironmentLock.try_take(path, exclusive=False)
    assert shared is not None
    assert also is not None
    assert EnvironmentLock.try_take(path, exclusive=True) is None
    shared.release()
    also.release()
    only = EnvironmentLock.try_take(path, exclusive=True)
    assert only is not None
    assert EnvironmentLock.try_take(path, exclusive=False) is None
    path.unlink()
    other = EnvironmentLock.try_take(path, exclusive=True)
    assert other is not None
    other.release()
    only.release()
    assert not path.exists()


def test_a_lock_on_a_file_that_lost_its_name_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "k.lock"
    real = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        path.unlink()  # as the holder before does, between our open and our lock
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert EnvironmentLock.try_take(path, exclusive=True) is None


# The operator's pip -----------------------------------------------------------------------------


async def test_the_installed_pip_answers_with_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary: the names inside pip that this asks for are private."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.test/simple")
    found = await read_settings()
    assert found.options[":env:.index-url"] == "https://mirror.test/simple"
    assert found.sources().indexes[0] == "https://mirror.test/simple"
    assert found.default_index.startswith("https://")
    assert found.default_file_host
    assert "/" not in found.default_file_host
    assert find_pip().exists()


async def test_a_pip_that_cannot_answer_is_a_typed_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(tmp_path, monkeypatch, "")
    with pytest.raises(EnvironmentFailed, match="pip did not tell its configuration"):
        await read_settings()


@sandboxed
async def test_without_an_installed_pip_the_interpreters_bundled_one_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pip" else real(name)
    )
    try:
        assert find_pip().suffix == ".whl"
    except EnvironmentFailed:
        pytest.skip("this interpreter brings no pip of its own")
    assert (await read_settings()).default_file_host
    make_wheel(tmp_path / "wheels")
    (await cache(tmp_path, offline(tmp_path / "wheels")).acquire(["tiny"])).close()


def test_without_any_pip_the_hint_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _name: None)
    with pytest.raises(EnvironmentFailed) as told:
        find_pip()
    assert "ensurepip" in told.value.hint


async def test_a_pip_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "SETTINGS_SECONDS", 0.0)
    with pytest.raises(EnvironmentFailed, match="within 0 s"):
        await read_settings()


async def test_asking_pip_can_be_cancelled() -> None:
    asking = asyncio.create_task(read_settings())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@sandboxed
async def test_configured_certificates_are_shown_and_missing_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = offline(tmp_path / "wheels")
    operator.options["cert"] = str(tmp_path / "ca.pem")
    with pytest.raises(EnvironmentFailed, match=r"certificates that are not there: .*ca\.pem"):
        await cache(tmp_path, operator).acquire(["tiny"])
    (tmp_path / "ca.pem").write_text("a certificate")
    (tmp_path / "ca.pem").chmod(0o644)
    fake_pip(
        tmp_path,
        monkeypatch,
        "sys.exit('ERROR: ' + open(sys.argv[sys.argv.index('--cert') + 1]).read())",
    )
    with pytest.raises(EnvironmentFailed, match="failed: a certificate"):
        await cache(tmp_path, operator).acquire(["tiny"])


def test_this_interpreter_has_a_key_of_its_own() -> None:
    here = this_interpreter()
    assert all([here.implementation, here.version, here.abi, here.platform])
    elsewhere = Interpreter("x", "y", "z", "p", "l")
    assert plan_environment(["a"], here).key != plan_environment(["a"], elsewhere).key


@sandboxed
@pytest.mark.slow
async def test_a_real_package_from_the_operators_index(tmp_path: Path) -> None:
    settings = await read_settings()
    environments = EnvironmentCache(tmp_path / "environments", tier=Tier.FULL, clock=StoppedClock())
    try:
        environment = await environments.acquire(["six>=1.16"])
    except EnvironmentFailed as failed:
        if failed.data["not_reached"] or "Retrying" in failed.data["output"]:
            pytest.skip(f"the index of {settings.default_index} is UNREACHABLE: {failed.sentence}")
        raise
    with environment:
        assert environment.distributions[0].startswith("six==")
