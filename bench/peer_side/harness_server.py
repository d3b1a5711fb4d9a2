"""Serves a folder of skills with HarnessAPI on loopback: `harness_server.py SKILLS`.

Prints its port and ends when its input ends.
"""

from __future__ import annotations

import json
import socket
import sys
import threading

import uvicorn
from harnessapi import HarnessAPI


def main(skills: str) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    app = HarnessAPI(skills_dir=skills)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))

    def end_with_input() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end_with_input, daemon=True).start()
    # Listening already: who connects now is answered once the server has come up.
    sys.stdout.write(json.dumps({"port": listening.getsockname()[1]}) + "\n")
    sys.stdout.flush()
    server.run(sockets=[listening])


if __name__ == "__main__":
    main(sys.argv[1])
