"""The base mounts are what every sandbox needs to run Python: interpreter, packages, guest code.

Theory of operation. The guest runs the node's own interpreter and packages, but at neutral
places, so that it learns nothing about the owner's home. Three facts shape this file:

- A virtual environment's `pyvenv.cfg` names a path of this machine, so the *base* interpreter is
  started, with `-I -S -B`, and the packages are added by name (`SITE_TARGETS`).
- An interpreter under /usr is there anyway, at its own path.
- Whatever the system keeps under /usr is public. Of /etc only the certificates and the linker's
  cache are shown: no names, no hosts, no passwords.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import cache
from pathlib import Path

from swarmharness.skills.errors import SandboxUnavailable
from swarmharness.skills.sandbox.confinement import Mount

PYTHON_TARGET = "/opt/py"
SITE_TARGET = "/opt/site"
GUEST_TARGET = "/opt/swarm/guest"
_PACKAGES = ("pydantic", "pydantic_core", "typing_extensions", "msgspec", "yaml")
_PYTHON_FLAGS = ("-I", "-S", "-B")

SYSTEM_ROOTS = ("/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32")
SYSTEM_FILES = (
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/ld.so.cache",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@cache
def base_mounts() -> tuple[Mount, ...]:
    """Interpreter (unless it is under /usr), package directories, guest code."""
    mounts = []
    prefix = os.path.realpath(sys.base_prefix)
    if not _is_system(prefix):
        mounts.append(Mount(prefix, PYTHON_TARGET))
    mounts += [
        Mount(source, target) for source, target in zip(_sites(), site_targets(), strict=True)
    ]
    mounts.append(Mount(str(Path(__file__).resolve().parent.parent / "guest"), GUEST_TARGET))
    return tuple(mounts)


@cache
def site_targets() -> tuple[str, ...]:
    """What the guest appends to `sys.path`; one entry unless packages are spread."""
    count = len(_sites())
    return tuple(SITE_TARGET + (str(index) if index else "") for index in range(count))


@cache
def python_argv() -> tuple[str, ...]:
    """How the guest starts Python; a script and its arguments follow."""
    prefix = os.path.realpath(sys.base_prefix)
    name = f"bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    executable = Path(prefix, name)
    if not executable.exists():
        executable = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    if _is_system(prefix):
        return (str(executable), *_PYTHON_FLAGS)
    if not executable.is_relative_to(prefix):
        raise SandboxUnavailable(
            f"The interpreter {executable} lies outside its own prefix {prefix}.",
            hint="Run the node with a Python that was installed in one directory.",
        )
    return (f"{PYTHON_TARGET}/{executable.relative_to(prefix)}", *_PYTHON_FLAGS)


def guest_argv(module: str, *arguments: str) -> list[str]:
    """How one module of the guest package is started."""
    return [*python_argv(), f"{GUEST_TARGET}/enter.py", module, *arguments]


@cache
def python_environment() -> dict[str, str]:
    """A relocated shared libpython is found by this variable only."""
    prefix = os.path.realpath(sys.base_prefix)
    if not _is_system(prefix) and any(Path(prefix, "lib").glob("libpython*.so*")):
        return {"LD_LIBRARY_PATH": f"{PYTHON_TARGET}/lib"}
    return {}


def bwrap_view() -> list[str]:
    """Arguments of bubblewrap that build the guest's world, apart from its own mounts."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for root in SYSTEM_ROOTS:
        path = Path(root)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), root]
        elif path.is_dir():
            arguments += ["--ro-bind", root, root]
    for file in SYSTEM_FILES:
        arguments += ["--ro-bind-try", file, file]
    arguments += ["--tmpfs", "/dev"]
    for device in DEVICES:
        arguments += ["--dev-bind", device, device]
    for name, link in (
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ):
        arguments += ["--symlink", link, f"/dev/{name}"]
    return arguments


def landlock_view() -> tuple[str, ...]:
    """The same world for tier 2, where Landlock hides the rest instead of a mount namespace."""
    paths = ("/usr", *SYSTEM_ROOTS, *SYSTEM_FILES, *DEVICES)
    return tuple(path for path in paths if Path(path).exists())


@cache
def _sites() -> tuple[str, ...]:
    found: dict[str, None] = {}
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SandboxUnavailable(
                f"The package {package} is missing from this installation.",
                hint="Install SwarmHarness again: python -m pip install --force-reinstall .",
            )
        origin = Path(spec.origin).resolve()
        directory = origin.parent.parent if origin.stem == "__init__" else origin.parent
        found[str(directory)] = None
    return tuple(found)


def _is_system(path: str) -> bool:
    return path == "/usr" or path.startswith("/usr/")
