"""A call directory is the scratch space of one call, with `out`, whose files go to the caller."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


class CallDirectory:
    """Made before its call, wiped after it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.out = path / "out"
        self.out.mkdir(parents=True)

    def enter(self) -> None:
        """For a process that serves one call at a time: the directory is its whole world."""
        os.chdir(self.path)
        os.environ["SWARM_OUT"] = str(self.out)
        os.environ["HOME"] = os.environ["TMPDIR"] = str(self.path)
        tempfile.tempdir = None  # forget the place found at import

    def artifacts(self) -> Iterator[tuple[str, bytes]]:
        """Names and contents; regular files only. The host checks names, number and size."""
        try:
            with os.scandir(self.out) as entries:
                found = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
        except FileNotFoundError:
            return
        for entry in sorted(found, key=lambda entry: entry.name):
            yield entry.name.encode("utf-8", "replace").decode(), Path(entry.path).read_bytes()

    def is_untouched(self) -> bool:
        try:
            with os.scandir(self.path) as entries, os.scandir(self.out) as files:
                return [entry.name for entry in entries] == ["out"] and not any(files)
        except OSError:
            return False

    def wipe(self) -> bool:
        """False when something refuses to go, which costs the sandbox its life."""
        try:
            shutil.rmtree(self.path)
        except (OSError, RecursionError):
            return self._wipe_stubborn()
        return True

    def _wipe_stubborn(self) -> bool:
        """Directories without permissions are opened up before they are looked into."""
        try:
            self.path.chmod(0o700)
            for place, directories, _ in os.walk(self.path):
                for path in (Path(place, name) for name in directories):
                    if not path.is_symlink():
                        path.chmod(0o700)
            shutil.rmtree(self.path)
        except (OSError, RecursionError):
            return False
        return True
