"""The host world is what an attack could harm: files, sockets and secrets made for the test.

Everything is open to every user of the machine, so that nothing but the sandbox protects it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INSIDE = Path(__file__).parent / "inside"
SECRET_VARIABLE = "SWARM_TEST_SECRET"


@contextlib.contextmanager
def host_world() -> Iterator[dict[str, Any]]:
    """The facts that the attacks are told; `directory` is world-readable."""
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="swarm-attacks-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, directory)
        directory.chmod(0o777)
        secret = secrets.token_hex(16)
        key, victim = directory / "node.key", directory / "victim"
        key.write_text(secret)
        key.chmod(0o644)
        victim.write_text("intact")
        victim.chmod(0o666)
        os.environ[SECRET_VARIABLE] = secret
        stack.callback(os.environ.pop, SECRET_VARIABLE)
        abstract_name = f"swarm-attacks-{secret}"
        listeners = [
            (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            (socket.AF_UNIX, socket.SOCK_STREAM, "\0" + abstract_name),
            (socket.AF_UNIX, socket.SOCK_STREAM, str(directory / "stream")),
            (socket.AF_UNIX, socket.SOCK_DGRAM, str(directory / "datagram")),
        ]
        port = 0
        for family, kind, address in listeners:
            listener = stack.enter_context(socket.socket(family, kind))
            listener.bind(address)
            if kind == socket.SOCK_STREAM:
                listener.listen()
            if family == socket.AF_INET:
                port = listener.getsockname()[1]
        for name in ("stream", "datagram"):
            (directory / name).chmod(0o777)
        yield {
            "directory": str(directory),
            "secret": secret,
            "secret_file": str(key),
            "victim_file": str(victim),
            "home": str(directory),
            "port": port,
            "abstract_name": abstract_name,
            "socket_path": str(directory / "stream"),
            "datagram_path": str(directory / "datagram"),
            "node_pid": os.getpid(),
            "disk": next((p.name for p in sorted(Path("/sys/block").iterdir())), "sda"),
        }
