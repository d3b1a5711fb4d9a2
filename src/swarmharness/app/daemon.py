"""The daemon runs one node in this process, until a signal or the control API ends it.

The first Ctrl-C (or SIGTERM) drains: no new tasks, running ones get half a minute. The second one
cancels what is still running and ends within two seconds.
"""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import os
import select
import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import Any, final

import msgspec

from swarmharness.app.ending import ended_by, ending_signals, stdin_end
from swarmharness.app.session import SESSION, say
from swarmharness.http.server import ControlServer
from swarmharness.kernel.errors import ErrorRecord, from_record
from swarmharness.kernel.printable import printable
from swarmharness.node.config import NodeConfig
from swarmharness.node.errors import HomeUnusable, StartFailed
from swarmharness.node.home import Home
from swarmharness.node.node import DRAIN_MS, Node
from swarmharness.sdk.errors import NodeUnresponsive

LOG_BYTES = 20 * 1024 * 1024  # of one log file
LOG_FILES = 5  # kept beside it
READY_S = 60.0  # how long a detached start may take; skills with environments take longest
GRACE_S = 3.0  # for a start that is to end: a sandbox that is just being built is best let be
END_S = 45.0  # a drain and what follows it


@final
class _Told(msgspec.Struct):
    """The envelope of a start, as `swarm up --json` prints it."""

    data: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


def run_attached(home: Home, config: NodeConfig, *, until_stdin_ends: bool = False) -> int:
    """Returns the exit status when the node has ended."""
    return asyncio.run(_serve(home, config, until_stdin_ends=until_stdin_ends))


async def _serve(home: Home, config: NodeConfig, *, until_stdin_ends: bool) -> int:
    node = Node(home, config)
    _log_to(home)
    hurry = asyncio.Event()
    signals: list[signal.Signals] = []

    def asked(number: signal.Signals) -> None:
        signals.append(number)
        if node.shutdown_requested.is_set():
            hurry.set()
        node.shutdown_requested.set()

    def abandoned() -> None:
        """Whoever started the node is gone, and nobody waits for what it still runs."""
        signals.append(signal.SIGTERM)
        hurry.set()
        node.shutdown_requested.set()

    with ExitStack() as watching:
        watching.enter_context(ending_signals(asked))
        if until_stdin_ends:
            watching.enter_context(stdin_end(abandoned))
        if not await _has_started(node):
            raise ended_by(signals[0])
        await _serve_until_asked(node, hurry)
    if not SESSION.is_json:
        say("The node has ended.")
    return 0


async def _has_started(node: Node) -> bool:
    """False when it was asked to end before it was ready, and has taken down what had begun."""
    starting = asyncio.ensure_future(node.start())
    asked = asyncio.ensure_future(node.shutdown_requested.wait())
    try:
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({starting}, timeout=GRACE_S)
        starting.cancel()  # nothing happens to a start that is done
        await starting
    except asyncio.CancelledError:
        if not starting.cancelled() or not asked.done():
            raise
        return False
    finally:
        asked.cancel()
    return True


async def _serve_until_asked(node: Node, hurry: asyncio.Event) -> None:
    control = ControlServer(node)
    try:
        try:
            await control.start()
            await _announce(node)
            await node.shutdown_requested.wait()
            if node.busy_with and not hurry.is_set():
                say(f"Draining: {node.busy_with} tasks are running. Ctrl-C again cancels them.")
        finally:
            # The control API answers during the drain: `swarm status` shows what it waits for.
            await _stop(node, hurry)
    finally:
        await control.stop()


async def _stop(node: Node, hurry: asyncio.Event) -> None:
    stopping = asyncio.ensure_future(node.stop(drain_ms=DRAIN_MS))
    hurrying = asyncio.ensure_future(hurry.wait())
    await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        node.hurry()
    hurrying.cancel()
    await stopping


async def _announce(node: Node) -> None:
    status = await node.status()
    if SESSION.is_json:
        SESSION.data("up", status)
        return
    say(f"node {status.short_id} is up")
    for address in status.addresses:
        say(f"  address  {address}")
    say(f"  {status.sandbox}")
    refused = f", {status.skills_refused} refused (see `swarm skills`)"
    noun = "skill" if status.skills_serving == 1 else "skills"
    say(f"  {status.skills_serving} {noun}{refused if status.skills_refused else ''}")
    connected = sum(peer.state == "connected" for peer in status.peers)
    if status.peers:
        say(f"  {connected} of {len(status.peers)} peers connected")
    say("Ctrl-C drains and ends it.")


def run_detached(home: Home) -> int:
    """Starts the same command again without --detach, and returns once it is ready.

    The child writes for a program: its one line says that it is up, or why it is not.
    """
    home.create()
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    if not SESSION.is_json:
        arguments.append("--json")
    try:
        log = home.log.open("ab")
    except OSError as error:
        raise HomeUnusable(f"{home.log} cannot be written: {error.strerror}.") from error
    with log:
        child = subprocess.Popen(  # noqa: S603  our own command line
            [sys.executable, "-m", "swarmharness.app", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert child.stdout is not None, "a pipe was asked for"
    with child.stdout as told:
        is_told, _, _ = select.select([told], [], [], READY_S)
        line = told.readline() if is_told else b""
    if not is_told:
        child.terminate()
        raise StartFailed(f"The node was not ready after {READY_S:.0f} s; see {home.log}.")
    try:
        answer = msgspec.json.decode(line, type=_Told)
    except msgspec.DecodeError:
        raise StartFailed(f"The node ended while it started: {_last_words(home)}") from None
    if answer.error is not None:
        raise from_record(ErrorRecord(**answer.error), remote=False)
    if SESSION.is_json:
        SESSION.data("up", answer.data)
    else:
        say(f"The node runs as process {child.pid}; `swarm status` shows it.")
    return 0


def wait_for_end(pid: int) -> None:
    """Until that process is gone, or `NodeUnresponsive`."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        has_ended, _, _ = select.select([descriptor], [], [], END_S)
    finally:
        os.close(descriptor)
    if not has_ended:
        raise NodeUnresponsive(f"The node (process {pid}) has not ended after {END_S:.0f} s.")


@final
class _OneEntry(logging.Formatter):
    """Other people's words cannot begin a line of their own, or steer the terminal of a reader."""

    def format(self, record: logging.LogRecord) -> str:
        first, *rest = printable(super().format(record)).split("\n")
        return "\n".join([first, *(f"  | {line}" for line in rest)])


def _log_to(home: Home) -> None:
    handler = logging.handlers.RotatingFileHandler(
        home.log, maxBytes=LOG_BYTES, backupCount=LOG_FILES, delay=True
    )
    handler.setFormatter(_OneEntry("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _last_words(home: Home) -> str:
    lines = home.log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it said nothing."
