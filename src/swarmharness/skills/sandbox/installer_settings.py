"""The installer settings are what the operator's pip would do: its options and its default index.

Run as a program by the interpreter that has pip: `installer_settings.py PLACE_OF_PIP`. It prints
one JSON object. Asking pip itself keeps its rules of precedence between files, and keeps the
default index's address out of this code.
"""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    """Names inside pip are private: a test runs this against the pip that is installed."""
    sys.path.insert(0, sys.argv[1])
    configuration = importlib.import_module("pip._internal.configuration").Configuration(
        isolated=False
    )
    configuration.load()
    index = importlib.import_module("pip._internal.models.index").PyPI
    settings = {
        "options": dict(configuration.items()),
        "default_index": index.simple_url,
        "default_file_host": index.file_storage_domain,
    }
    sys.stdout.write(json.dumps(settings))


if __name__ == "__main__":
    main()
