"""The bootstrap is the first code in a sandbox: it confines itself, imports the skill, serves.

Theory of operation. It is started by a bare interpreter (`-I -S -B`) with two descriptors: a
configuration to read once, and the control socket. Everything before the import of the skill
is ours; everything after it may be hostile, this process included. So the order is the
protection: limits and file rules first, then `booted`, and only then the skill.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_FAILURE_LIMIT: Final = 500  # characters of a reason
SKILL_PACKAGE: Final = "_swarm_skill"

# Numeric libraries start a thread per core at import, and then cannot be forked.
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """`argv`: the configuration's descriptor, the control socket's descriptor."""
    config_descriptor, control_descriptor = (int(argument) for argument in sys.argv[1:3])
    with os.fdopen(config_descriptor, "rb") as stream:
        config: dict[str, Any] = json.load(stream)
    _arrange_process(config)
    # Only now are the node's packages on the path.
    from .control import ControlSocket

    control = ControlSocket(control_descriptor)
    confine_call = _confine(config, control)
    control.send({"t": "booted"})
    _serve(config, control, confine_call)


def _arrange_process(config: dict[str, Any]) -> None:
    if config["mode"] == "fork":
        os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    os.chdir(config["scratch"])
    with open(os.devnull, "r+b") as null:  # noqa: PTH123  pathlib cannot open for reading and writing unbuffered
        os.dup2(null.fileno(), 0)
        os.dup2(null.fileno(), 1)
    sys.path += config["site"]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _confine(config: dict[str, Any], control: Any) -> Callable[[str], None]:
    """Returns how a forked call confines itself further."""
    if config["listener"]:
        from .egress import open_listener

        open_listener(control.socket)
    if not config["confined"]:
        return _confine_no_further
    from . import confine

    confine.confine_base()
    return confine.confine_call


def _confine_no_further(_directory: str) -> None:
    """Without confinement there is nothing to add for a call."""


def _serve(config: dict[str, Any], control: Any, confine_call: Callable[[str], None]) -> None:
    from .describe import describe_json
    from .loader import SkillLoadError, load_skill

    _offer_context()
    # The skill's own packages come first, but after ours are loaded: it cannot replace those.
    from .worker import Worker
    from .zygote import Zygote, thread_count

    sys.path[0:0] = config["environment_path"]
    folder = Path(config["folder"])
    try:
        skill = load_skill(folder, SKILL_PACKAGE)
        description = describe_json(skill, folder) if config["mode"] == "describe" else None
    except SkillLoadError as error:
        control.send({"t": "failed", "reason": error.reason[:_FAILURE_LIMIT]})
        return
    if description is not None:
        control.send({"t": "described", "d": description})
        return
    if config["mode"] == "fork" and (threads := thread_count()) > 1:
        control.send({"t": "threads", "count": threads})
        return
    control.send({"t": "ready"})
    scratch = Path(config["scratch"])
    if config["mode"] == "fork":
        Zygote(skill, control, scratch, confine_call).serve()
    else:
        Worker(skill, control, scratch, exclusive=config["exclusive"]).serve()


def _offer_context() -> None:
    """`swarmharness.skill` is a different, tiny package in here, whatever else is installed."""
    shim = str(Path(__file__).parent / "shim")
    sys.path.insert(0, shim)
    importlib.import_module("swarmharness.skill")
    sys.path.remove(shim)
