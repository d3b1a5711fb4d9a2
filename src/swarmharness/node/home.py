"""The home is the one directory of a node: its key, its configuration, its data, its lock.

    identity/node.key    the secret, 0600
    config.toml          what the operator wants
    run/                 while the node runs: lock, control socket and token, endpoint.json
    snapshots/           read-only copies of the skill folders that are served
    descriptions/        what skills said of themselves, so that a restart need not ask again
    environments/        packages of skills that brought their own

A second process on the same home is refused by an advisory lock that the kernel drops with the
process, so a crash never leaves a home locked.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import final

import platformdirs

from swarmharness.node.errors import HomeInUse, HomeUnusable

log = logging.getLogger(__name__)

HOME_VARIABLE = "SWARM_HOME"


def default_home() -> Path:
    """`$SWARM_HOME`, else the platform's place for user data."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named)
    return platformdirs.user_data_path("swarmharness") / "nodes" / "default"


@final
class Home:
    """Paths of one home, and the lock that says who runs it."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.identity = self.path / "identity"
        self.config = self.path / "config.toml"
        self.run = self.path / "run"
        self.endpoint = self.run / "endpoint.json"
        self.token = self.run / "control.token"
        self.log = self.run / "node.log"
        self.snapshots = self.path / "snapshots"
        self.descriptions = self.path / "descriptions"
        self.environments = self.path / "environments"
        self.port = self.path / "listen_port"
        self._lock: int | None = None

    def exists(self) -> bool:
        """Whether a node was ever initialised here."""
        return self.identity.is_dir()

    def create(self) -> None:
        """All directories, private to the user."""
        try:
            for directory in (self.path, self.identity, self.run, self.snapshots):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HomeUnusable(f"{self.path} cannot be a home: {error.strerror}.") from error

    def acquire(self) -> None:
        """Become the one process of this home, or `HomeInUse`."""
        self.create()
        try:
            descriptor = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HomeUnusable(f"{self.path} cannot be locked: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise HomeInUse(f"A node is already running in {self.path}.") from None
        self._lock = descriptor

    def release(self) -> None:
        """Remove what only a running node has, then the lock."""
        if self._lock is None:
            return
        self.endpoint.unlink(missing_ok=True)
        self.token.unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None

    def remembered_port(self) -> int:
        """The port of the last start, so that a restart keeps the address; 0 when unknown."""
        try:
            port = int(self.port.read_text())
        except (OSError, ValueError):
            return 0
        return port if 0 < port < 65536 else 0  # noqa: PLR2004  TCP's range

    def remember_port(self, port: int) -> None:
        """A hint only: a node whose disk is full starts without it."""
        try:
            self.port.write_text(f"{port}\n")
        except OSError as error:
            log.warning("The port is not remembered in %s: %s.", self.port, error.strerror)
