"""Artifact files are what `swarm run --out` keeps of the files that a skill made."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, final

from swarmharness.app.errors import FileNotKept
from swarmharness.app.session import say
from swarmharness.sdk.errors import NodeUnresponsive


@final
class ArtifactFiles:
    """Of one task. Nobody's file is overwritten; only a task's own failed attempt is."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._written: list[Path] = []

    def save(self, artifact: dict[str, Any]) -> None:
        """Exchanges the content, as it came, for the path where it is."""
        name, size = artifact["name"], artifact["size"]
        if self._directory is None:
            say(f"file {name} ({size} bytes) left out: --out DIR keeps it")
            return
        # Each message that carries a name has checked it: letters, digits, dot, dash, underscore.
        path = self._directory / Path(name).name
        try:
            content = base64.b64decode(artifact.pop("content_base64"))
        except ValueError as error:
            raise NodeUnresponsive(f"The content of {name} cannot be read: {error}.") from error
        self._write(path, content)
        artifact["path"] = str(path)
        say(f"file {path} ({size} bytes)")

    def drop(self) -> None:
        """The attempt that made them has failed, and the next one makes them anew."""
        for path in self._written:
            path.unlink(missing_ok=True)
        self._written.clear()

    def _write(self, path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                self._written.append(path)
                file.write(content)
        except FileExistsError:
            raise FileNotKept(f"{path} is there already and is not overwritten.") from None
        except OSError as error:
            self.drop()
            raise FileNotKept(f"{path} cannot be written: {error.strerror}.") from error
