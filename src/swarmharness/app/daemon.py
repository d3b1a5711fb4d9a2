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
import time

from swarmharness.app.session import SESSION, say
from swarmharness.http.server import ControlServer
from swarmharness.node.config import NodeConfig
from swarmharness.node.errors import ListenFailed
from swarmharness.node.home import Home
from swarmharness.node.node import DRAIN_MS, Node

LOG_BYTES = 20 * 1024 * 1024  # of one log file
LOG_FILES = 5  # kept beside it
READY_S = 60.0  # how long a detached start may take; skills with environments take longest
END_S = 45.0  # a drain and what follows it


def run_attached(home: Home, config: NodeConfig) -> int:
    """Returns the exit status when the node has ended."""
    return asyncio.run(_serve(home, config))


async def _serve(home: Home, config: NodeConfig) -> int:
    node = Node(home, config)
    _log_to(home)
    await node.start()
    control = ControlServer(node)
    hurry = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if node.shutdown_requested.is_set():
            hurry.set()
        node.shutdown_requested.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    try:
        await control.start()
        await _announce(node)
        await node.shutdown_requested.wait()
        if node.busy_with:
            say(f"Draining: {node.busy_with} tasks are running. Ctrl-C again cancels them.")
        await _stop(node, hurry)
    finally:
        await control.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    if not SESSION.is_json:
        say("The node has ended.")
    return 0


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
    say(f"  {status.skills_serving} skills{refused if status.skills_refused else ''}")
    connected = sum(peer.state == "connected" for peer in status.peers)
    if status.peers:
        say(f"  {connected} of {len(status.peers)} peers connected")
    say("Ctrl-C drains and ends it.")


def run_detached(home: Home) -> int:
    """Starts the same command again without --detach, and returns once it is ready."""
    home.create()
    arguments = [argument for argument in sys.argv[1:] if argument not in {"--detach", "--json"}]
    with home.log.open("ab") as log:
        child = subprocess.Popen(  # noqa: S603  our own command line
            [sys.executable, "-m", "swarmharness.app", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if child.poll() is not None:
            sys.stderr.write(_last_words(home))
            return child.returncode
        if _is_endpoint_of(home, child.pid):
            if SESSION.is_json:
                SESSION.data("up", {"pid": child.pid, "home": str(home.path)})
            else:
                say(f"The node runs as process {child.pid}; `swarm status` shows it.")
            return 0
        time.sleep(0.05)
    child.terminate()
    raise ListenFailed(f"The node was not ready after {READY_S:.0f} s; see {home.log}.")


def wait_for_end(pid: int) -> None:
    """Until that process is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [], END_S)
    finally:
        os.close(descriptor)


def _log_to(home: Home) -> None:
    handler = logging.handlers.RotatingFileHandler(
        home.log, maxBytes=LOG_BYTES, backupCount=LOG_FILES, delay=True
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _is_endpoint_of(home: Home, pid: int) -> bool:
    from swarmharness.sdk.control_client import read_endpoint
    from swarmharness.sdk.errors import NoNode

    try:
        return read_endpoint(home).pid == pid
    except NoNode:
        return False


def _last_words(home: Home) -> str:
    lines = home.log.read_text(errors="replace").splitlines()[-6:]
    return "\n".join(lines) + "\n"
