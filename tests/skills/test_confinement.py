import asyncio
import contextlib
import json
import os
import select
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarmharness.skills.errors import SandboxUnavailable
from swarmharness.skills.sandbox import launch as launching
from swarmharness.skills.sandbox import mounts
from swarmharness.skills.sandbox.confinement import (
    CONFINEMENT_VARIABLE,
    MAX_MOUNTS,
    MIB,
    STDERR_BYTES,
    Confinement,
    Mount,
    guest_limits,
)
from swarmharness.skills.sandbox.launch import launch
from swarmharness.skills.sandbox.process import SandboxProcess
from swarmharness.skills.sandbox.tiers import Tier
from swarmharness.skills.sandbox.watchdog import Breach, TreeMeter, Watchdog

TIERS = [Tier.FULL, Tier.MASKED_PROC, Tier.LANDLOCK_ONLY]
PATIENCE_SECONDS = 20  # only a hang takes that long
GUEST = "/app/guest.py"
PRELUDE = """
import importlib.util, json, os, sys, time
spec = importlib.util.spec_from_file_location("confine", sys.argv[1] + "/confine.py")
confine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(confine)
def say(value): os.write(int(sys.argv[2]), json.dumps(value).encode() + b"\\n")
confine.confine_base()
"""


@contextlib.asynccontextmanager
async def guest(
    code: str, tmp_path: Path, *, tier: Tier = Tier.FULL, **limits: Any
) -> AsyncIterator[tuple[SandboxProcess, asyncio.StreamReader]]:
    """A sandbox that runs the code, and what it says."""
    script = tmp_path / "guest.py"
    script.write_text(PRELUDE + textwrap.dedent(code))
    reader, writer = os.pipe()
    more = limits.pop("mounts", ())
    process = await launch(
        Confinement(mounts=(*mounts.base_mounts(), Mount(str(script), GUEST), *more), **limits),
        argv=[*mounts.python_argv(), GUEST, mounts.GUEST_TARGET, str(writer)],
        pass_fds=[writer],
        tier=tier,
    )
    os.close(writer)
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, "rb")
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield process, stream
    finally:
        await process.kill()
        transport.close()
        await asyncio.sleep(0)


async def hear(stream: asyncio.StreamReader) -> Any:
    return json.loads(await stream.readline())


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.mark.parametrize("tier", TIERS)
async def test_a_killed_sandbox_leaves_nothing(tmp_path: Path, tier: Tier) -> None:
    code = """
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork(): os._exit(0)
            while True: pass
    say("up")
    while True: pass
    """
    async with guest(code, tmp_path, tier=tier) as (process, stream):
        assert await hear(stream) == "up"
        tree = [pid for pid, _ in TreeMeter(process.init_pid)._tree() if pid != process.init_pid]
        assert len(tree) >= 4, "the guest and three orphans"
        handles = [os.pidfd_open(pid) for pid in tree]
        assert await process.kill() != 0
        assert process.has_ended
        assert await process.kill() == process.status, "a second time changes nothing"
        for handle in handles:
            assert select.select([handle], [], [], 0)[0], "killed before kill() returned"
            os.close(handle)


@pytest.mark.parametrize("tier", TIERS)
async def test_orphans_end_with_the_guest(tmp_path: Path, tier: Tier) -> None:
    code = """
    if os.fork() == 0:
        os.setsid()
        os.close(int(sys.argv[2]))
        while True: time.sleep(60)
    say("bye")
    os._exit(7)
    """
    async with guest(code, tmp_path, tier=tier) as (process, stream):
        assert await hear(stream) == "bye"
        assert await process.wait() == 7


async def _node(tier: Tier) -> None:
    script = Path(sys.argv[2])
    process = await launch(
        Confinement(mounts=(*mounts.base_mounts(), Mount(str(script), GUEST))),
        argv=[*mounts.python_argv(), GUEST, mounts.GUEST_TARGET, "1"],
        tier=tier,
    )
    while not process.stderr_tail():
        await asyncio.sleep(0.001)
    sys.stdout.write(f"{process.outer_pid} {process.init_pid}\n")
    sys.stdout.flush()
    await process.wait()


@pytest.mark.parametrize("tier", TIERS)
async def test_a_node_killed_by_force_takes_its_sandboxes_along(tmp_path: Path, tier: Tier) -> None:
    script = tmp_path / "guest.py"
    script.write_text(PRELUDE + "os.fork(); os.write(2, b'up')\nwhile True: time.sleep(60)")
    node = subprocess.Popen(
        [sys.executable, __file__, tier.value, str(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert node.stdout is not None
    pids = [int(word) for word in node.stdout.readline().split()]
    handles = [os.pidfd_open(pid) for pid in pids]
    node.kill()
    node.communicate()
    for handle in handles:
        assert select.select([handle], [], [], PATIENCE_SECONDS)[0]
        os.close(handle)


@pytest.mark.parametrize("node_lives", [True, False])
def test_a_guest_whose_node_is_gone_ends_before_it_begins(node_lives: bool) -> None:
    lifeline, end = os.pipe()
    limits = guest_limits(Confinement(), scratch="/tmp", writable=(), lifeline=lifeline)
    if not node_lives:
        os.close(end)
    source = mounts.base_mounts()[-1].source
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + "say('began')", source, "1"],
        env={CONFINEMENT_VARIABLE: msgspec.json.encode(limits).decode()},
        pass_fds=[lifeline],
        stdout=subprocess.PIPE,
    )
    os.close(lifeline)
    if node_lives:
        os.close(end)
    assert (result.returncode, result.stdout) == ((0, b'"began"\n') if node_lives else (1, b""))


async def test_a_sandbox_is_never_root(tmp_path: Path) -> None:
    code = "say([os.getuid(), os.getgid(), os.getgroups()]); time.sleep(600)"
    async with guest(code, tmp_path) as (process, stream):
        uid, gid, groups = await hear(stream)
        assert (uid, gid) == (65534, 65534)
        assert set(groups) <= {65534}
        for pid in (process.outer_pid, process.init_pid):
            users = set(_status(pid)["Uid"].split())
            assert users == {str(process.uid)}
            assert process.uid != 0


async def test_granted_secrets_are_on_no_command_line(tmp_path: Path) -> None:
    code = "say(os.environ['TOKEN']); time.sleep(600)"
    async with guest(code, tmp_path, environment={"TOKEN": "s3cr3t"}) as (process, stream):
        assert await hear(stream) == "s3cr3t"
        for pid in (process.outer_pid, process.init_pid):
            assert b"s3cr3t" not in Path(f"/proc/{pid}/cmdline").read_bytes()
            assert Path(f"/proc/{pid}/environ").read_bytes().strip(b"\0") == b""


@pytest.mark.parametrize("tier", TIERS)
async def test_the_environment_is_ours_alone(
    tmp_path: Path, tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNERS_SECRET", "x")
    async with guest("say(sorted(os.environ))", tmp_path, tier=tier) as (_, stream):
        names = set(await hear(stream)) - {"LC_CTYPE", "PWD", "LD_LIBRARY_PATH"}
    assert names == {"HOME", "LANG", "MALLOC_ARENA_MAX", "PATH", "TMPDIR"}


async def test_only_the_last_words_are_kept(tmp_path: Path) -> None:
    code = "sys.stderr.write('x' * 300_000 + 'end'); sys.stderr.flush(); print('lost')"
    async with guest(code, tmp_path) as (process, _):
        assert await process.wait() == 0
        tail = process.stderr_tail()
    assert len(tail) == STDERR_BYTES
    assert tail.endswith("xend")


@pytest.mark.parametrize("tier", TIERS)
async def test_mounts_are_where_inside_says(tmp_path: Path, tier: Tier) -> None:
    shared, state = tmp_path / "shared", tmp_path / "state"
    shared.mkdir()
    (shared / "data").write_text("hello")
    state.mkdir()
    state.chmod(0o777)
    code = """
    with open(os.environ["SHARED"]) as stream: data = stream.read()
    def blocked(path):
        try: open(path, "w").close()
        except OSError: return True
        return False
    say([data, blocked(os.environ["SHARED"]), blocked(os.environ["STATE"] + "/x")])
    """
    granted = (Mount(str(shared), "/app/shared"), Mount(str(state), "/state", writable=True))
    places = {"SHARED": "/app/shared/data", "STATE": "/state"}
    if tier is Tier.LANDLOCK_ONLY:
        neutral = launching.NEUTRAL_DIRECTORIES[0] if os.geteuid() == 0 else None
        places = (
            {name: neutral + path for name, path in places.items()}
            if neutral
            else {"SHARED": str(shared / "data"), "STATE": str(state)}
        )
    async with guest(code, tmp_path, tier=tier, mounts=granted, environment=places) as (
        process,
        stream,
    ):
        assert await hear(stream) == ["hello", True, False]
        assert process.inside("/app/shared/data") == places["SHARED"]
        assert process.inside("/usr/bin") == "/usr/bin"
    assert (state / "x").exists()


@pytest.mark.parametrize("low_priority", [True, False])
async def test_priority(tmp_path: Path, low_priority: bool) -> None:
    code = "say([os.sched_getscheduler(0) == os.SCHED_IDLE, os.getpriority(os.PRIO_PROCESS, 0)])"
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    async with guest(code, tmp_path, low_priority=low_priority) as (_, stream):
        assert await hear(stream) == ([True, 19] if low_priority else [False, ours])


@pytest.mark.slow
async def test_a_call_has_a_limit_of_computing_time(tmp_path: Path) -> None:
    code = """
    child = os.fork()
    if child == 0:
        confine.confine_call(os.environ["TMPDIR"])
        while True: pass
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    async with guest(code, tmp_path, cpu_seconds=1, low_priority=False) as (_, stream):
        assert await hear(stream) == -24, "SIGXCPU"


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            """
            for _ in range(8):
                if os.fork() == 0: block = bytearray(24 << 20); time.sleep(600)
            time.sleep(600)
            """,
            id="eight children, each under its own limit",
        ),
        pytest.param(
            "import mmap; m = mmap.mmap(-1, 160 << 20); m.write(bytes(160 << 20)); time.sleep(600)",
            id="a shared mapping, which is no data of the process",
        ),
    ],
)
async def test_the_watchdog_ends_what_grows_together(tmp_path: Path, code: str) -> None:
    async with guest(code, tmp_path, data_bytes=192 * MIB) as (process, _):
        breach: asyncio.Future[Breach] = asyncio.get_running_loop().create_future()
        meter = TreeMeter(process.init_pid)
        watchdog = Watchdog(meter, breach.set_result, limit_bytes=128 * MIB)
        watchdog.start()
        kind, found = await breach
        assert kind == "memory"
        assert found > 128 * 1024
        await process.kill()
        assert meter.max_rss_kib > 128 * 1024


async def test_no_tier_runs_nothing() -> None:
    with pytest.raises(SandboxUnavailable, match="nothing is run"):
        await launch(Confinement(), argv=["/usr/bin/true"], tier=Tier.NONE)


async def test_a_missing_bubblewrap_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "find_bwrap", lambda: None)
    with pytest.raises(SandboxUnavailable, match="not installed"):
        await launch(Confinement(), argv=["/usr/bin/true"], tier=Tier.FULL)


async def test_a_source_that_is_missing_is_said(tmp_path: Path) -> None:
    confinement = Confinement(mounts=(Mount(str(tmp_path / "gone"), "/app/gone"),))
    with pytest.raises(SandboxUnavailable, match="gone"):
        await launch(confinement, argv=["/usr/bin/true"], tier=Tier.FULL)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT COVERED: only root drops to another user")
async def test_a_source_that_the_dropped_user_cannot_read_is_said(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    confinement = Confinement(mounts=(Mount(str(private), "/app/private"),))
    with pytest.raises(SandboxUnavailable, match=r"cannot read .*/app/private"):
        await launch(confinement, argv=["/usr/bin/true"], tier=Tier.FULL)


async def test_a_program_that_is_missing_ends_with_a_reason() -> None:
    process = await launch(Confinement(), argv=["/usr/bin/no-such-program"], tier=Tier.FULL)
    assert await process.wait() != 0
    assert "no-such-program" in process.stderr_tail()


async def test_a_cancelled_launch_leaves_nothing(tmp_path: Path) -> None:
    async def start() -> None:
        await launch(Confinement(), argv=["/usr/bin/sleep", "600"], tier=Tier.FULL)

    task = asyncio.create_task(start())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_mount_points_do_not_nest() -> None:
    with pytest.raises(AssertionError, match="lies inside"):
        Confinement(mounts=(Mount("/a", "/app"), Mount("/c", "/app-x"), Mount("/b", "/app/b")))
    Confinement(mounts=(Mount("/a", "/app"), Mount("/b", "/app-b")))


def test_mounts_are_absolute_and_few() -> None:
    with pytest.raises(AssertionError, match="relative"):
        Confinement(mounts=(Mount("a", "/app"),))
    with pytest.raises(AssertionError, match="relative"):
        Confinement(mounts=(Mount("/a", "app"),))
    Confinement(mounts=tuple(Mount("/a", f"/m{n}") for n in range(MAX_MOUNTS)))
    with pytest.raises(AssertionError, match="more than"):
        Confinement(mounts=tuple(Mount("/a", f"/m{n}") for n in range(MAX_MOUNTS + 1)))


if __name__ == "__main__":
    asyncio.run(_node(Tier(sys.argv[1])))
