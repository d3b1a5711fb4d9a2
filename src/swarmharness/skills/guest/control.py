"""The control socket carries a sandbox's own affairs: its readiness, and each call's descriptor.

Every call gets a socket of its own, whose guest end arrives here beside a `call` frame.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from .frames import FrameBuffer, encode

_RECEIVE_BYTES: Final = 64 * 1024
_DESCRIPTORS_AT_ONCE: Final = 64  # more calls than a pool has places cannot wait here


class ControlSocket:
    """The guest's end. Blocking: the event loop of a worker reads it only when it is ready."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.settimeout(None)
        self._socket.set_inheritable(False)
        self._frames = FrameBuffer()
        self._descriptors: list[int] = []
        self._ended = False

    @property
    def socket(self) -> socket.socket:
        """For the hand-off of the proxy listener, before the first frame."""
        return self._socket

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, frame: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        data = encode(frame)
        if descriptors:
            sent = socket.send_fds(self._socket, [data], list(descriptors))
            data = data[sent:]
        self._socket.sendall(data)

    def receive(self) -> dict[str, Any] | None:
        """Waits for the next frame; None when the host is gone."""
        while (frame := self._frames.next()) is None:
            if self._ended or not self.fill():
                return None
        return frame

    def fill(self) -> bool:
        """Reads once; False when the host is gone."""
        data, descriptors, _flags, _address = socket.recv_fds(
            self._socket, _RECEIVE_BYTES, _DESCRIPTORS_AT_ONCE, socket.MSG_CMSG_CLOEXEC
        )
        self._descriptors += descriptors
        self._frames.feed(data)
        self._ended = not data
        return bool(data)

    def pop(self) -> dict[str, Any] | None:
        """The next frame that is already here."""
        return self._frames.next()

    def take_descriptor(self) -> int:
        """The call socket that came with the `call` frame just read; they keep their order."""
        return self._descriptors.pop(0)

    def close(self) -> None:
        self._socket.close()
