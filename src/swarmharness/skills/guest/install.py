"""Installing fills one environment directory from inside a sandbox of its own.

The installer reads indexes and archives that strangers wrote, so it runs as confined as a skill:
it writes the environment's directory only and reaches the package index only. Orders arrive as
one line of JSON on the control socket, because they may hold the index's password and command
lines are public.
"""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import socket
import sys
from pathlib import Path

from . import confine, egress

_ORDER_BYTES = 256 * 1024


def main() -> None:
    """The process becomes the installer: its exit status is ours."""
    with socket.socket(fileno=int(sys.argv[1])) as control:
        orders = json.loads(_read_line(control))
        if orders["proxy"]:
            egress.open_listener(control)
    os.umask(0o022)  # whichever user runs the skill must be able to read it
    os.dup2(2, 1)  # what the installer says is the reason of a failure
    Path(orders["scratch"]).mkdir()
    os.environ["TMPDIR"] = orders["scratch"]
    confine.confine_base()
    _make_importable(orders["installer"])
    sys.argv = ["pip", *orders["arguments"]]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


def _make_importable(installer: str) -> None:
    """A wheel goes on the path. A package is named: the directory around it may be unreadable."""
    if installer.endswith(".whl"):
        sys.path.insert(0, installer)
        return
    spec = importlib.util.spec_from_file_location(
        "pip", f"{installer}/__init__.py", submodule_search_locations=[installer]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["pip"] = package
    spec.loader.exec_module(package)


def _read_line(control: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < _ORDER_BYTES:
        piece = control.recv(_ORDER_BYTES)
        if not piece:
            break
        line += piece
    return line
