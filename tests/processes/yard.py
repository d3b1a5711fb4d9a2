"""A yard of real nodes: processes started like a person starts them, each with a home of its own.

What a node starts is held by pidfd from the moment it is looked at, so that its end can be waited
for; `PATIENCE_S` only turns a hang into a failure.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

from swarmharness.node.api import NodeStatus, SkillStatus
from swarmharness.node.home import Home
from swarmharness.sdk.control_client import ControlClient

PATIENCE_S = 60

MODELS = """
from harnessapi import SkillInput, SkillOutput

class Input(SkillInput):
    text: str = ""
    seconds: float = 0

class Output(SkillOutput):
    text: str
"""


def plain(body: str) -> str:
    """A handler with these lines for a body."""
    lines = dedent(body).strip().replace("\n", "\n    ")
    return (
        "import asyncio\nimport os\n\nfrom .models import Input, Output\n\n\n"
        f"async def handle(request: Input) -> Output:\n    {lines}\n"
    )


def write_skill(
    directory: Path, name: str, handler: str, *, models: str | None = MODELS, toml: str = ""
) -> Path:
    folder = directory / name
    folder.mkdir(parents=True)
    (folder / "handler.py").write_text(handler)
    (folder / "skill.toml").write_text(toml or f'[skill]\ndescription = "{name}"\n')
    if models is not None:
        (folder / "models.py").write_text(models)
    return folder


def wait_until(holds: Callable[[], bool]) -> None:
    """Asks again and again: what other processes do has no event here."""
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up, "it never came to be"


class Answer:
    """What one `swarm` command said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.split("\n") if line]

    @property
    def data(self) -> Any:
        assert self.code in {0, 5}, (self.code, self.out, self.err)
        assert self.lines[-1]["ok"] is True
        return self.lines[-1]["data"]

    @property
    def error(self) -> dict[str, Any]:
        last = self.lines[-1]
        assert last["ok"] is False, last
        assert set(last["error"]) == {"code", "blame", "sentence", "hint", "data"}
        assert last["error"]["sentence"]
        assert last["error"]["hint"]
        return last["error"]


class Held:
    """A process that is not ours, by pidfd: its number cannot come to mean another one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.descriptor = os.pidfd_open(pid)

    def wait(self) -> None:
        ready, _, _ = select.select([self.descriptor], [], [], PATIENCE_S)
        assert ready, f"process {self.pid} still runs: {_command_of(self.pid)}"

    def close(self) -> None:
        os.close(self.descriptor)


class Talk:
    """A running `swarm` command whose lines are read one by one."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert ready, "the command says nothing"
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def until(self, kind: str) -> dict[str, Any]:
        """The first update of this type."""
        while True:
            line = self.line()
            assert line["ok"], line
            if line["data"]["type"] == kind:
                update: dict[str, Any] = line["data"]
                return update

    def end(self) -> Answer:
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return Answer(self.process.returncode, out.decode(), (err or b"").decode())


class NodeProcess:
    """One `swarm up`."""

    def __init__(self, yard: Yard, home: Path, talk: Talk) -> None:
        self.yard = yard
        self.home = home
        self.process = talk.process
        self._talk = talk
        up = talk.line()
        assert up["ok"], up
        self.up: dict[str, Any] = up["data"]
        self.short_id: str = self.up["short_id"]
        self.address: str = self.up["addresses"][0]

    def swarm(self, *arguments: str, **options: Any) -> Answer:
        return self.yard.swarm(self.home, *arguments, **options)

    def begin(self, *arguments: str) -> Talk:
        return self.yard.begin(self.home, *arguments)

    def run(self, skill: str, value: Any = None, *options: str) -> Answer:
        return self.swarm("run", skill, "--input", json.dumps(value or {}), *options, "--json")

    def begin_run(self, skill: str, value: Any = None, *options: str) -> Talk:
        text = json.dumps(value or {})
        return self.begin("run", skill, "--input", text, "--stream", *options, "--json")

    def status(self) -> NodeStatus:
        async def ask() -> NodeStatus:
            async with ControlClient(Home(self.home)) as node:
                return await node.status()

        return asyncio.run(ask())

    def nodes_offering(self, skill: str) -> list[str]:
        async def ask() -> list[SkillStatus]:
            async with ControlClient(Home(self.home)) as node:
                return await node.skills()

        return [one.node for one in asyncio.run(ask()) if one.name == skill]

    def descendants(self) -> list[Held]:
        held = [Held(pid) for pid in descendants_of(self.process.pid)]
        self.yard.held += held
        return held

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        """Drains; everything that it had started must be gone with it."""
        started = self.descendants()
        self.signal(signal.SIGTERM)
        code = self.wait()
        for process in started:
            process.wait()
        return code

    @property
    def log(self) -> str:
        return (self.home / "run" / "node.log").read_text()


class Yard:
    def __init__(self) -> None:
        # Short, as a home's path may be in practice: a socket's path has at most 108 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="yard-"))
        self.temporary = self.directory / "tmp"
        self.temporary.mkdir()
        self.held: list[Held] = []
        self.nodes: list[NodeProcess] = []
        self._talks: list[Talk] = []

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SWARM_", "PYTHONOPT"))}
        return {**kept, "TMPDIR": str(self.temporary)}

    def swarm(
        self,
        home: Path,
        *arguments: str,
        stdin: bytes = b"",
        python: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Answer:
        ended = subprocess.run(
            [sys.executable, *python, "-m", "swarmharness.app", "--home", str(home), *arguments],
            input=stdin,
            capture_output=True,
            timeout=PATIENCE_S,
            env={**self.environment(), **(environment or {})},
        )
        return Answer(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def begin(self, home: Path, *arguments: str) -> Talk:
        errors = (self.directory / f"{home.name}.err").open("ab")
        with errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "swarmharness.app", "--home", str(home), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,  # `select` must know of every line that is there
                env=self.environment(),
            )
        talk = Talk(process)
        self._talks.append(talk)
        return talk

    def up(self, name: str, *arguments: str, skills: Path | None = None) -> NodeProcess:
        offered = () if skills is None else ("--skills", str(skills))
        home = self.directory / name
        node = NodeProcess(self, home, self.begin(home, "up", "--json", *offered, *arguments))
        self.nodes.append(node)
        return node

    def close(self) -> None:
        """Ends what runs, and finds what was left behind."""
        for node in self.nodes:
            if node.process.poll() is None:
                node.stop()
        for talk in self._talks:
            if talk.process.poll() is None:
                talk.process.kill()
            talk.process.wait()
            assert talk.process.stdout is not None
            talk.process.stdout.close()
        for held in self.held:
            held.wait()
            held.close()
        left = [path.name for path in self.temporary.iterdir()]
        assert not left, f"left in the temporary directory: {left}"
        for node in self.nodes:
            faults = [line for line in node.log.splitlines() if " ERROR " in line]
            assert not faults, faults
            assert "never retrieved" not in node.log, node.log
            assert "Traceback" not in (self.directory / f"{node.home.name}.err").read_text()
        shutil.rmtree(self.directory)


def descendants_of(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            try:
                yield from descendants_of(int(child))
            except FileNotFoundError:
                continue


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "unknown"
