"""A session is one call in one sandbox: its socket, its clock, its end.

Theory of operation. The socket is the window. The host reads it only while the consumer wants
the next event, so a consumer that stops reading stops the handler, without a buffer in between
that could grow. Two clocks run, never at the same time: while the consumer waits for us, the
handler's (its wall limit); while we wait for the consumer, the consumer's (`STALL_SECONDS`).

A verdict (time is up, the sandbox broke the rules) shuts our end of the socket: whoever waits
for it wakes up, finds the verdict and raises it. Closing the session in any state is the
cancellation of the call; what must still die dies under the sandbox's care.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import Final, final

from swarmharness.kernel.errors import SwarmError
from swarmharness.skills.call import CallEvent, Finished, Meters, SkillCall
from swarmharness.skills.errors import (
    CallerStalled,
    ResourceExceeded,
    SandboxLost,
    SandboxProtocolBroken,
    SkillTimeout,
)
from swarmharness.skills.sandbox.boot_plan import BootMode
from swarmharness.skills.sandbox.guest_frames import (
    CALL_FRAMES,
    CallFrame,
    GuestFrameReader,
    encode_call,
)
from swarmharness.skills.sandbox.sandbox import STEP_SECONDS, Ending, Sandbox
from swarmharness.skills.sandbox.transcript import Answer, Transcript

STALL_SECONDS: Final = 30.0  # a terminal user who paused with Ctrl-S comes back or does not
SETTLE_SECONDS: Final = 2.0  # for an honest child to end and its files to be wiped, under load
_CLOCK_GRAIN_SECONDS: Final = 0.01  # two clocks that alternate must not make the timer spin
_RECEIVE_BYTES: Final = 64 * 1024
_SIGXCPU: Final = 24

_numbers = itertools.count(1)


def new_call_name() -> str:
    """The name of a call between host and guest: two callers may use one id at the same time."""
    return f"c{next(_numbers)}"


@final
class Session:
    """Has a place in the sandbox from its creation until `close`."""

    def __init__(
        self,
        sandbox: Sandbox,
        name: str,
        ending: asyncio.Future[Ending],
        call: SkillCall,
        *,
        wall_seconds: float,
        queue_ms: int,
        cold: bool,
    ) -> None:
        self._sandbox = sandbox
        self._name = name
        self._ending = ending
        self._call = call
        self._wall_seconds = wall_seconds
        self._queue_ms = queue_ms
        self._cold = cold
        self._loop = asyncio.get_running_loop()
        self._frames: GuestFrameReader[CallFrame] = GuestFrameReader(CALL_FRAMES)
        self._transcript = Transcript(name, sandbox.skill.max_output_bytes)
        self._verdict: SwarmError | None = None
        self._socket: socket.socket | None = None
        self._is_settled = False
        self._guest_is_ahead = False
        self._cpu_ms_before = sandbox.read_meter().cpu_ms
        self._handler_seconds = 0.0
        self._consumer_seconds = 0.0
        self._consumer_has_it = False
        self._since = self._started_at = self._loop.time()
        first_look = min(wall_seconds, STALL_SECONDS)
        self._timer = self._loop.call_later(first_look, self._check_clocks)

    async def open(self) -> None:
        """Sends the input; returns once the guest has taken it, or cannot."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        self._socket = ours
        request = {
            "t": "call",
            "id": self._name,
            "task": self._call.call_id,
            "caller": str(self._call.caller),
            "deadline_ms": round(self._wall_seconds * 1000),
        }
        data = encode_call(request, self._call.input)
        with theirs:
            sent = ours.send(data)
            self._sandbox.begin(self._name, theirs.fileno())
        if sent < len(data):
            try:
                await self._loop.sock_sendall(ours, memoryview(data)[sent:])
            except ConnectionError:
                return  # the reading side finds out why

    async def next_event(self) -> CallEvent | None:
        """None after `Finished`. The consumer's clock runs between two calls of this."""
        if self._is_settled:
            return None
        self._switch_clock(to_consumer=False)
        try:
            return await self._next_event()
        except SandboxProtocolBroken as breach:
            self._sandbox.destroy(breach)
            raise
        finally:
            self._switch_clock(to_consumer=True)

    def close(self) -> None:
        """Ends the call, whatever its state."""
        self._timer.cancel()
        if self._socket is None:
            self._sandbox.withdraw(self._name)
            return
        self._socket.close()
        answered = self._transcript.has_ended
        grace = SETTLE_SECONDS if answered else STEP_SECONDS
        self._sandbox.expect_end(self._name, grace, answered=answered)

    async def _next_event(self) -> CallEvent | None:
        while True:
            while (frame := self._frames.next()) is not None:
                said = self._transcript.accept(frame)
                if isinstance(said, SwarmError):
                    raise said
                if isinstance(said, Answer):
                    return await self._finish(said)
                if said is not None:
                    return said
            data = await self._receive()
            if self._verdict is not None:
                raise self._verdict
            if not data:
                raise await self._find_cause()
            self._frames.feed(data)

    async def _receive(self) -> bytes:
        assert self._socket is not None
        if self._guest_is_ahead:
            # Whoever always has more for us must not keep the loop and its clocks to itself.
            await asyncio.sleep(0)
        self._guest_is_ahead = True
        while True:
            try:
                return self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                pass
            except ConnectionError:
                return b""
            self._guest_is_ahead = False
            readable = self._loop.create_future()
            self._loop.add_reader(self._socket.fileno(), _wake, readable)
            try:
                await readable
            finally:
                self._loop.remove_reader(self._socket.fileno())

    async def _finish(self, answer: Answer) -> Finished:
        self._is_settled = True
        if self._sandbox.mode is BootMode.FORK:
            # The call's process is metered once its zygote has reaped it.
            self._sandbox.expect_end(self._name, SETTLE_SECONDS)
            await asyncio.shield(self._ending)
        reading = self._sandbox.read_meter()
        meters = Meters(
            queue_ms=self._queue_ms,
            wall_ms=round((self._loop.time() - self._started_at) * 1000),
            cpu_ms=max(0, reading.cpu_ms - self._cpu_ms_before),
            max_rss_kib=reading.rss_kib,
            bytes_in=len(self._call.input),
            bytes_out=self._transcript.bytes_out,
            chunks=self._transcript.chunks,
            cold=self._cold,
        )
        return Finished(answer.output, meters)

    async def _find_cause(self) -> SwarmError:
        """Why the guest closed the call's socket before its end."""
        self._sandbox.expect_end(self._name, STEP_SECONDS)
        ending = await asyncio.shield(self._ending)
        if self._verdict is not None:
            return self._verdict
        if ending.signal == _SIGXCPU:
            return ResourceExceeded("The handler used up its processor time.", data={"kind": "cpu"})
        if not ending.is_known:
            await self._sandbox.wait_gone()
            return self._sandbox.cause_of_death or SandboxLost(
                "The sandbox ended before the handler did."
            )
        how = f"by signal {ending.signal}" if ending.signal else f"with status {ending.status}"
        return SandboxLost(f"The handler's process ended {how}.")

    def _switch_clock(self, *, to_consumer: bool) -> None:
        now = self._loop.time()
        if self._consumer_has_it:
            self._consumer_seconds += now - self._since
        else:
            self._handler_seconds += now - self._since
        self._consumer_has_it = to_consumer
        self._since = now

    def _check_clocks(self) -> None:
        self._switch_clock(to_consumer=self._consumer_has_it)
        handler_left = self._wall_seconds - self._handler_seconds
        consumer_left = STALL_SECONDS - self._consumer_seconds
        if handler_left <= 0:
            self._stop(
                SkillTimeout(
                    f"{self._sandbox.skill.name} ran longer than {self._wall_seconds:g} s.",
                    data={"limit_ms": round(self._wall_seconds * 1000)},
                )
            )
        elif consumer_left <= 0:
            self._stop(
                CallerStalled(f"The reader left the stream waiting for {STALL_SECONDS:g} s.")
            )
        else:
            wait = max(_CLOCK_GRAIN_SECONDS, min(handler_left, consumer_left))
            self._timer = self._loop.call_later(wait, self._check_clocks)

    def _stop(self, verdict: SwarmError) -> None:
        self._verdict = verdict
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # the guest closed it at the same moment, which wakes the reader as well
        self._sandbox.expect_end(self._name, STEP_SECONDS)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
