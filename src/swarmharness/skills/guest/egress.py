"""The guest's end of the egress proxy: one listening socket, opened inside and served outside.

Theory of operation. The sandbox has an empty network namespace: nothing is reachable but its own
loopback. Before any code of the skill runs, the bootstrap listens there and hands the listening
socket to the host, which accepts on it from outside. Whoever connects is therefore inside this
sandbox, and no other identity is needed.

This side closes its copy at once. File status flags belong to the open socket and are shared by
all copies: skill code that held one could make it blocking and hang the host's accept.
"""

from __future__ import annotations

import os
import socket

PROXY_HOST = "127.0.0.1"
PROXY_PORT = 3128
LISTENER_MARK = b"L"  # the one byte that carries the descriptor
_BACKLOG = 64

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


def open_listener(control_socket: socket.socket, port: int = PROXY_PORT) -> None:
    """Hand the listener out and point the usual HTTP clients at it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((PROXY_HOST, port))
        listener.listen(_BACKLOG)
        listener.settimeout(0)
        socket.send_fds(control_socket, [LISTENER_MARK], [listener.fileno()])
    for name in _PROXY_VARIABLES:
        os.environ[name] = f"http://{PROXY_HOST}:{port}"
