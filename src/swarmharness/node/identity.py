"""The identity file holds the one secret of a node: the 32-byte seed of its Ed25519 key.

It is written once, complete or not at all (a private temporary file, fsync, then a hard link that
fails if the name exists), with mode 0600 in a directory with mode 0700. A file that looks wrong in
any way is refused with a sentence that says how to mend it, and is never touched: what looks
damaged may be the only copy of somebody's key.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from swarmharness.kernel.signing import SEED_BYTES, KeyPair
from swarmharness.node.errors import HomeUnusable, IdentityUnsafe

KEY_FILE = "node.key"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def load_or_create(directory: Path) -> KeyPair:
    """The node's key, made at the first call."""
    path = directory / KEY_FILE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.lexists(path):
            _require_ours(directory, directory.stat())
            _create(path)
    except OSError as error:
        raise HomeUnusable(f"No key can be written to {directory}: {error.strerror}.") from error
    return load(directory)


def load(directory: Path) -> KeyPair:
    """The key that is there; `IdentityUnsafe` says what is wrong with it."""
    path = directory / KEY_FILE
    try:
        _require_ours(directory, directory.stat())
        # O_NOFOLLOW: a link could point at a file that somebody else can write. O_NONBLOCK: a pipe
        # of that name would keep the start waiting for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise IdentityUnsafe(f"The key file {path} cannot be opened: {error.strerror}.") from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise IdentityUnsafe(f"{path} is not a regular file.")
        if facts.st_uid != os.geteuid():
            raise IdentityUnsafe(
                f"The key file {path} belongs to user {facts.st_uid}, not to you.",
                hint=f"If the key is yours: sudo chown {os.geteuid()} {path}",
            )
        if facts.st_mode & _OTHERS:
            raise IdentityUnsafe(
                f"Others can read or write the key file {path}"
                f" (mode {stat.S_IMODE(facts.st_mode):04o}).",
                hint=f"If nobody else has used it: chmod 600 {path}",
            )
        seed = os.read(descriptor, SEED_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(seed) < SEED_BYTES:
        raise IdentityUnsafe(
            f"The key file {path} has {len(seed)} bytes instead of {SEED_BYTES}: it was cut short."
        )
    if len(seed) > SEED_BYTES:
        raise IdentityUnsafe(
            f"The key file {path} has more than {SEED_BYTES} bytes: it is not a node key."
        )
    if seed == bytes(SEED_BYTES):
        raise IdentityUnsafe(f"The key file {path} is all zeros: its content was lost.")
    return KeyPair(seed)


def _require_ours(directory: Path, facts: os.stat_result) -> None:
    """Whoever can write the directory can put another key in the place of ours."""
    if facts.st_uid != os.geteuid():
        raise IdentityUnsafe(
            f"The directory {directory} belongs to user {facts.st_uid}, not to you.",
            hint=f"If the key is yours: sudo chown {os.geteuid()} {directory}",
        )
    if facts.st_mode & _OTHERS_WRITE:
        raise IdentityUnsafe(
            f"Others can write the directory {directory} (mode {stat.S_IMODE(facts.st_mode):04o}).",
            hint=f"If nobody else has used it: chmod 700 {directory}",
        )


def _create(path: Path) -> None:
    temporary = path.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SEED_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return  # another start of this home was first: its key is the node's key
    finally:
        temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
