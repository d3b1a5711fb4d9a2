"""A cluster is the demo's own set of node processes, in one temporary directory.

Each node is what `swarm up` starts: its own process, key, home and port. Ending the cluster ends
every process that it started and removes the directory. Should the demo be killed, so that it can
end nothing, its nodes still end by themselves: the pipe to their standard input breaks. Only the
directory is left then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import msgspec

from swarmharness.app.demo.errors import NodeDidNotStart
from swarmharness.kernel.errors import ErrorRecord, from_record
from swarmharness.node.api import NodeStatus
from swarmharness.node.home import Home

START_S = 60.0  # a slow machine with a cold disk
END_S = 10.0  # after which a node that does not end by itself is killed


@final
class _Up(msgspec.Struct):
    """The envelope that `swarm up --json` prints when it is ready, or cannot be."""

    data: NodeStatus | None = None
    error: dict[str, Any] | None = None


@final
class NodeProcess:
    """One running `swarm up`."""

    def __init__(self, home: Home, process: asyncio.subprocess.Process, status: NodeStatus) -> None:
        self.home = home
        self.process = process
        self.status = status

    def kill(self) -> None:
        """No goodbye: what a power cut does."""
        self.process.send_signal(signal.SIGKILL)


@final
class Cluster:
    """`async with Cluster() as cluster:` then `start` nodes."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="swarm-demo-"))
        self._processes: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        running = [process for process in self._processes if process.returncode is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            assert process.stdin is not None, "a pipe was asked for"
            process.stdin.close()  # at once: nobody waits for what it still runs
        await asyncio.gather(*(self._end(process) for process in running))
        _remove_tree(self.directory)

    async def start(
        self, name: str, *, skills: Sequence[Path] = (), peers: Sequence[str] = ()
    ) -> NodeProcess:
        """A node that serves these skill folders; returns when it is ready."""
        home = Home(self.directory / name)
        served = self.directory / f"{name}-skills"
        served.mkdir()
        for folder in skills:
            (served / folder.name).symlink_to(folder)
        command = [sys.executable, "-m", "swarmharness.app", "--home", str(home.path), "up"]
        command += [
            "--json",
            "--until-stdin-ends",
            "--allow-tier2",
            "--listen",
            "127.0.0.1:0",
            "--skills",
            str(served),
        ]
        for address in peers:
            command += ["--peer", address]
        errors = self.directory / f"{name}.err"
        with errors.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                env={**os.environ, "TMPDIR": str(self.directory), "SWARM_HOME": str(home.path)},
                start_new_session=True,  # Ctrl-C reaches the demo, which ends its nodes itself
            )
        self._processes.append(process)
        assert process.stdout is not None, "a pipe was asked for"
        try:
            async with asyncio.timeout(START_S):
                line = await process.stdout.readline()
            up = msgspec.json.decode(line, type=_Up)
        except (TimeoutError, msgspec.DecodeError) as error:
            words = errors.read_text(errors="replace").strip()[-1000:] or line_text(error)
            raise NodeDidNotStart(f"Node {name} did not start: {words}") from error
        if up.data is None:
            raise from_record(ErrorRecord(**(up.error or {})), remote=False)
        return NodeProcess(home, process, up.data)

    @staticmethod
    async def _end(process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _remove_tree(root: Path) -> None:
    """Sealed snapshots of skills open up first."""
    for directory, _, _ in os.walk(root):
        Path(directory).chmod(0o700)
    shutil.rmtree(root)


def line_text(error: Exception) -> str:
    """What to say when the process said nothing itself."""
    return str(error) or type(error).__name__
