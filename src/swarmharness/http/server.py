"""The control server listens for the owner's programs: on a socket file and on loopback.

`run/control.sock` can be opened by the owner only and needs no token. The loopback port takes a
token that is new at every start. `run/endpoint.json` tells clients where both are; it is written
last, complete or not at all, so whoever finds it can connect.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

import msgspec
import uvicorn

from swarmharness import __version__
from swarmharness.http.connection import ControlConnection
from swarmharness.http.control import control_app
from swarmharness.http.gate import Gate
from swarmharness.kernel.ids import node_id_text
from swarmharness.node.errors import HomeUnusable
from swarmharness.node.home import Home
from swarmharness.node.node import Node

PREFERRED_PORT = 8642
SOCKET_PATH_LIMIT = 100  # bytes; the kernel's own limit is 108 with the closing zero
CONNECTIONS_LIMIT = 256  # concurrent requests of one listener; more are answered 503 by the server
STOP_S = 5.0  # what open requests get at the end


@final
class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the daemon decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@final
class ControlServer:
    """`start` after the node has started, `stop` before it stops."""

    def __init__(self, node: Node) -> None:
        self._home = node.home
        self._node = node
        self._socket_path = socket_path(node.home)
        self._servers: list[_Server] = []
        self._serving: list[asyncio.Task[None]] = []
        self.url = ""

    async def start(self) -> None:
        """Listening when this returns."""
        token = secrets.token_urlsafe(32)
        _write_private(self._home.token, token.encode())
        self._socket_path.unlink(missing_ok=True)
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o177)
        try:
            local.bind(str(self._socket_path))
        finally:
            os.umask(previous)
        loopback = _bind_loopback()
        port = loopback.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        app = Gate(control_app(self._node), port=port, token=token)
        # Each listener has limits of its own: strangers who fill the port's leave the owner's be.
        for listening in (local, loopback):
            listening.listen(128)
            server = _Server(_config(app))
            self._servers.append(server)
            self._serving.append(asyncio.create_task(server.serve(sockets=[listening])))
        # Both sockets listen already: who connects now is answered once the loop comes to it.
        _write_private(self._home.endpoint, self._endpoint())

    async def stop(self) -> None:
        """No request is answered afterwards."""
        self._home.endpoint.unlink(missing_ok=True)
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*self._serving)
        self._socket_path.unlink(missing_ok=True)

    def _endpoint(self) -> bytes:
        return msgspec.json.encode(
            {
                "pid": os.getpid(),
                "started_ms": time.time_ns() // 1_000_000,
                "url": self.url,
                "socket": str(self._socket_path),
                "node_id": node_id_text(self._node.node_id),
                "version": __version__,
            }
        )


def _config(app: Gate) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        http=ControlConnection,
        ws="none",
        lifespan="off",
        server_header=False,
        date_header=False,
        limit_concurrency=CONNECTIONS_LIMIT,
        timeout_graceful_shutdown=int(STOP_S),
    )


def socket_path(home: Home) -> Path:
    """In the home, or under a hashed name in the runtime directory where the path is too long."""
    path = home.run / "control.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    name = f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.sock"
    for runtime in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108
        directory = Path(runtime or "") / f"swarmharness-{os.geteuid()}"
        if runtime and len(os.fsencode(directory / name)) <= SOCKET_PATH_LIMIT:
            return _private(directory) / name
    raise AssertionError("the last of these is short enough")


def _private(directory: Path) -> Path:
    """The directory may stand where everybody can write: only ours will do."""
    directory.mkdir(mode=0o700, exist_ok=True)
    facts = directory.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise HomeUnusable(f"Others have access to {directory}, the place of the control socket.")
    return directory


def _bind_loopback() -> socket.socket:
    for port in (PREFERRED_PORT, 0):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError:
            listening.close()
            if port == 0:
                raise
        else:
            return listening
    raise AssertionError("port 0 either binds or raises")


def _write_private(path: Path, content: bytes) -> None:
    """Complete or not at all, readable by the owner only."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
