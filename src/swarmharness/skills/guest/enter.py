"""Entering starts one module of the guest package, wherever that directory is mounted.

The package gets a name of its own and `sys.path` stays as it is: whatever a skill calls its own
modules, it meets none of ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

PACKAGE = "_swarm_guest"


def enter() -> None:
    """The first argument names the module; its `main` finds the others in `sys.argv`."""
    directory = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(
        PACKAGE, directory / "__init__.py", submodule_search_locations=[str(directory)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    del sys.argv[0]
    importlib.import_module(f"{PACKAGE}.{sys.argv[0]}").main()


if __name__ == "__main__":
    enter()
