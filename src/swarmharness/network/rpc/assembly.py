"""Assembly joins the frames of one message; it holds at most one message of each class."""

from __future__ import annotations

from typing import Final, final

from swarmharness.network.errors import ProtocolViolation
from swarmharness.network.rpc.frames import BACKGROUND, MORE, Frame
from swarmharness.network.rpc.limits import KIB, MAX_MESSAGE_BYTES

REQUEST_OVERHEAD_BYTES: Final = KIB  # method, key, trace and time around a body of full size


@final
class _Partial:
    """A message whose last frame has not come yet."""

    __slots__ = ("call", "kind", "parts", "size_bytes")

    def __init__(self, kind: int, call: int) -> None:
        self.kind = kind
        self.call = call
        self.parts: list[bytes] = []
        self.size_bytes = 0


@final
class Assembly:
    """Frames in, whole payloads out."""

    def __init__(self) -> None:
        self._partials: dict[int, _Partial] = {}  # by class flag: at most two

    def add(self, frame: Frame) -> bytes | None:
        """The payload once it is whole."""
        kind, flags, call, payload = frame
        if not flags & MORE and not self._partials:
            return payload
        class_flag = flags & BACKGROUND
        partial = self._partials.get(class_flag)
        if partial is None:
            if not flags & MORE:
                return payload
            partial = self._partials[class_flag] = _Partial(kind, call)
        elif (partial.kind, partial.call) != (kind, call):
            raise ProtocolViolation(
                f"A frame of call {call} interrupts an unfinished message of call {partial.call}."
            )
        if not payload:
            raise ProtocolViolation("A part of a longer message is empty.")
        partial.size_bytes += len(payload)
        if partial.size_bytes > MAX_MESSAGE_BYTES + REQUEST_OVERHEAD_BYTES:
            raise ProtocolViolation(f"A message is longer than {MAX_MESSAGE_BYTES} bytes.")
        partial.parts.append(payload)
        if flags & MORE:
            return None
        del self._partials[class_flag]
        return b"".join(partial.parts)
