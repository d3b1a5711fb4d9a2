"""A channel is the guest's end of one call's socket: input and `cancel` in, everything else out.

Theory of operation. `post` never waits: it sends what the kernel takes and keeps the rest, so
that plain functions (`progress()` in a handler) may use it. Whoever produces in a loop waits in
`drain` after each frame: the kernel's buffer is the window, and a reader that stops reading
stops the handler. Handlers of the plain kind run in a thread, hence the lock.
"""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from .frames import FrameBuffer, encode, encode_with_pieces

_RECEIVE_BYTES: Final = 64 * 1024


class HostGone(Exception):
    """The host closed the call's socket: nobody wants the answer any more."""


class Channel:
    """Used by one event loop and, for plain handlers, one thread."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.settimeout(0)
        self._frames = FrameBuffer()
        self._unsent = bytearray()
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._watched = False

    def post(self, frame: dict[str, Any]) -> None:
        self._send(encode(frame))

    def post_content(self, frame: dict[str, Any], content: bytes) -> None:
        """Like `post`, for content of any length."""
        self._send(encode_with_pieces(frame, content))

    @property
    def is_blocked(self) -> bool:
        return bool(self._unsent)

    async def drain(self) -> None:
        """Returns when the kernel has taken everything."""
        while self._unsent:
            writable = self._loop.create_future()
            self._loop.add_writer(self._socket.fileno(), _wake, writable)
            try:
                await writable
            finally:
                self._loop.remove_writer(self._socket.fileno())
            with self._lock:
                self._flush()

    def drain_in_thread(self) -> None:
        """The same for a plain handler's thread."""
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while self._unsent:
            poll.poll()
            with self._lock:
                self._flush()

    async def receive(self) -> dict[str, Any]:
        """The next frame with its pieces joined; `HostGone` at the end."""
        pieces: list[bytes] = []
        while True:
            frame = self._frames.next()
            if frame is None:
                await self._fill()
            elif frame["t"] == "piece":
                pieces.append(frame["d"])
            else:
                if pieces:
                    frame["d"] = b"".join([*pieces, frame["d"]])
                return frame

    def watch(self, on_cancel: Callable[[], object]) -> None:
        """After the input only `cancel` or the end can arrive: both mean stop."""
        self._loop.add_reader(self._socket.fileno(), self._on_readable, on_cancel)
        self._watched = True

    def close(self) -> None:
        if self._watched:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _on_readable(self, on_cancel: Callable[[], object]) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._watched = False
        on_cancel()

    async def _fill(self) -> None:
        try:
            data = await self._loop.sock_recv(self._socket, _RECEIVE_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            raise HostGone
        self._frames.feed(data)

    def _send(self, data: bytes) -> None:
        with self._lock:
            self._unsent += data
            self._flush()

    def _flush(self) -> None:
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return
            except OSError as error:
                self._unsent.clear()
                raise HostGone from error
            del self._unsent[:sent]


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
