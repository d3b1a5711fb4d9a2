"""The description cache keeps what skills said of themselves, so that a restart asks none again.

A description depends on the folder, its support, the environment and the place it is mounted;
the key names all four. Frames are kept as they came and are checked again when read, since a
file on disk deserves no more trust than the sandbox that it came from. Losing the cache costs
time only.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import final

from swarmharness.skills.description import FRAME_LIMIT
from swarmharness.skills.digest import Digest

MAX_DESCRIPTIONS = 512  # files of a few KiB; a node serves tens of skills
_TEMPORARY = ".new-"


def description_key(content: Digest, support: Digest, environment: Digest, mount: str) -> str:
    """Also the file's name."""
    state = hashlib.sha256(b"swarm/description/1\0" + content + support + environment)
    state.update(mount.encode("utf-8", "surrogateescape"))
    return state.hexdigest()


@final
class DescriptionCache:
    """One directory, opened on first use. Its methods block; call them in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, key: str) -> bytes | None:
        """None as well for a file that is no frame any more; it will be replaced."""
        path = self._directory / key
        try:
            with path.open("rb") as file:
                frame = file.read(FRAME_LIMIT + 1)
            os.utime(path)
        except FileNotFoundError:
            return None
        return frame if 0 < len(frame) <= FRAME_LIMIT else None

    def put(self, key: str, frame: bytes) -> None:
        """Whole or not at all; the least used ones make place."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._directory / f"{_TEMPORARY}{secrets.token_hex(8)}"
        temporary.write_bytes(frame)
        temporary.rename(self._directory / key)
        kept = sorted(
            self._directory.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True
        )
        for path in kept[MAX_DESCRIPTIONS:]:
            path.unlink()

    def drop(self, key: str) -> None:
        """What it held could not be read as a description."""
        (self._directory / key).unlink(missing_ok=True)
