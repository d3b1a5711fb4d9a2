"""Async tests run on a fresh loop, and nothing may be left behind: tasks, fds, children."""

from __future__ import annotations

import asyncio
import gc
import inspect
from pathlib import Path

import pytest


def _open_descriptors() -> dict[str, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except OSError:
            continue
    return {fd: target for fd, target in found.items() if not target.startswith("/proc/")}


def _children() -> set[int]:
    tasks = Path("/proc/self/task")
    found: set[int] = set()
    for task in tasks.iterdir():
        try:
            found.update(int(pid) for pid in (task / "children").read_text().split())
        except OSError:
            continue
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """`async def` tests run here: on the virtual-clock loop when marked `virtual`."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    if pyfuncitem.get_closest_marker("virtual"):
        from swarmharness.simulator.loop import run_virtual

        run_virtual(pyfuncitem.obj(**arguments))
        return True
    fds, children = _open_descriptors(), _children()

    async def body() -> None:
        await pyfuncitem.obj(**arguments)
        left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task() and not t.done()]
        assert not left, f"tasks left running: {left}"

    asyncio.run(body(), debug=False)
    gc.collect()
    new_fds = {fd: t for fd, t in _open_descriptors().items() if fds.get(fd) != t}
    assert not new_fds, f"descriptors left open: {new_fds}"
    assert _children() <= children, f"child processes left: {_children() - children}"
    return True
