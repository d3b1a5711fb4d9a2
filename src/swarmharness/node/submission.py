"""A submission carries one of this node's own tasks to its end.

It drives the pure `Lifecycle`: each effect is one `await` here, each outcome one event there.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from contextlib import aclosing
from typing import final

from swarmharness.kernel.clock import Clock
from swarmharness.kernel.codec import decode, encode
from swarmharness.kernel.errors import MalformedMessage, SwarmError
from swarmharness.kernel.ids import NodeId, node_id_short
from swarmharness.network.errors import DeadlineExceeded
from swarmharness.node.attempt_intake import AttemptIntake
from swarmharness.node.content import pack, size_of, unpack
from swarmharness.node.errors import ShuttingDown
from swarmharness.node.gauge import Gauge
from swarmharness.node.peers import Peer, Peers
from swarmharness.node.workplace import Workplace, usage_of
from swarmharness.routing.choice import Candidate, choose
from swarmharness.skills.call import Artifact, Chunk, Finished, Progress, Started, is_json
from swarmharness.skills.errors import UnknownSkill
from swarmharness.skills.io.library import SkillLibrary
from swarmharness.tasks.errors import PeerGone, TooManyTasks
from swarmharness.tasks.lifecycle import (
    Accepted,
    AttemptFailed,
    Begin,
    CancelRequested,
    ChooseNode,
    Chosen,
    Close,
    DeadlinePassed,
    Effect,
    Event,
    Lifecycle,
    NobodyLeft,
    Offer,
    Pause,
    PauseEnded,
    ResultReceived,
)
from swarmharness.tasks.messages import (
    RUN_METHOD,
    VERSION,
    AcceptedMessage,
    ArtifactMessage,
    ChunkMessage,
    Content,
    ItemMessage,
    OfferMessage,
    ProgressMessage,
    ResultMessage,
    decode_item,
)
from swarmharness.tasks.task import (
    MAX_DEADLINE_MS,
    TASK_ID_BYTES,
    TaskId,
    TaskRequest,
    TaskState,
)
from swarmharness.tasks.update import (
    TaskAccepted,
    TaskArtifact,
    TaskChunk,
    TaskCompleted,
    TaskMoved,
    TaskOffered,
    TaskProgress,
    TaskUpdate,
    TaskUpdates,
)

OPEN_TASKS_LIMIT = 10_000  # unfinished tasks of one submitter; each holds its input in memory
OUTPUT_LIMIT = 64 * 1024 * 1024  # what a submitter takes from an executor in one piece
SETTLE_S = 2.0  # how long a task waits for peers that were named a moment ago
RECENT_FAILURE_S = 30.0  # how long a failed node comes last
EXPIRY_S = 300.0  # the same where a task's time ran out: that costs the task, not one attempt
END_GRACE_MS = 250  # an executor reports its own time-out; this is how long we wait for its word


@final
class _Run:
    """What one task's driving carries from step to step."""

    def __init__(self, core: Lifecycle, task_id: TaskId, effect: Effect) -> None:
        self.core = core
        self.task_id = task_id
        self.effect = effect
        self.result: TaskCompleted | None = None


@final
class Submissions:
    """All tasks that this node has submitted and not finished."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        peers: Peers,
        library: SkillLibrary,
        workplace: Workplace,
        clock: Clock,
    ) -> None:
        self._node_id = node_id
        self._peers = peers
        self._library = library
        self._workplace = workplace
        self._clock = clock
        self._is_open = True
        # Spreads load between equals; nothing secret or replayable hangs on it.
        self._draw = random.Random(secrets.randbits(64)).randrange  # noqa: S311
        self.gauge = Gauge()
        self.completed = 0
        self.failed = 0

    def drain(self) -> None:
        """Take no new tasks."""
        self._is_open = False

    async def run(self, request: TaskRequest) -> TaskUpdates:
        """The updates of one new task, ending with `TaskCompleted` or a `SwarmError`.

        Closing the iterator cancels the task wherever it is.
        """
        if not self._is_open:
            raise ShuttingDown("This node is shutting down and takes no new tasks.")
        if self.gauge.value >= OPEN_TASKS_LIMIT:
            raise TooManyTasks(f"This node has {self.gauge.value} unfinished tasks, its limit.")
        was_completed = False
        driving = self._drive(request)
        try:
            with self.gauge.one():
                async with aclosing(driving):
                    async for update in driving:
                        was_completed = isinstance(update, TaskCompleted)
                        yield update
        finally:
            self.completed += was_completed
            self.failed += not was_completed

    async def _drive(self, request: TaskRequest) -> TaskUpdates:
        core = Lifecycle(request, now_us=self._clock.now_us())
        effect = core.handle(Begin(), self._clock.now_us())
        run = _Run(core, TaskId(secrets.token_bytes(TASK_ID_BYTES)), effect)
        try:
            while not isinstance(run.effect, Close):
                if isinstance(run.effect, Offer):
                    offering = self._offer(run, run.effect)
                    async with aclosing(offering):
                        async for update in offering:
                            yield update
                else:
                    event = await self._outcome(run.effect, core)
                    run.effect = core.handle(event, self._clock.now_us())
        finally:
            if not core.state.is_terminal:
                core.handle(CancelRequested(), self._clock.now_us())
        if run.effect.error is not None:
            raise run.effect.error
        assert run.result is not None, "completed without a result"
        yield run.result

    async def _outcome(self, effect: Effect, core: Lifecycle) -> Event:
        match effect:
            case ChooseNode(excluded):
                return await self._choose(core.request, excluded)
            case Pause(ms):
                left_ms = core.remaining_ms(self._clock.now_us())
                await asyncio.sleep(min(ms, left_ms) / 1000)
                return PauseEnded()
        raise AssertionError(f"nothing leads on from {effect}")

    async def _offer(self, run: _Run, offer: Offer) -> TaskUpdates:
        """One attempt; `run.effect` says what follows it."""
        yield TaskOffered(offer.node, offer.attempt)
        failure: SwarmError | None = None
        attempt = self._attempt(run, offer)
        try:
            async with aclosing(attempt):
                async for update in attempt:
                    if isinstance(update, TaskAccepted):
                        self._accept(run)
                    elif run.core.state is not TaskState.WORKING:
                        raise MalformedMessage("The executor began before it accepted the task.")
                    if isinstance(update, TaskCompleted):
                        run.result = update
                        continue
                    if isinstance(run.effect, Close):
                        return
                    yield update
        except SwarmError as error:
            failure = error
        run.effect = self._conclude(run, offer.node, failure)
        if failure is not None and not isinstance(run.effect, Close):
            yield TaskMoved(offer.node, failure.code, failure.sentence)

    def _accept(self, run: _Run) -> None:
        if run.core.state is not TaskState.OFFERED:
            raise MalformedMessage("The executor accepted one task twice.")
        effect = run.core.handle(Accepted(), self._clock.now_us())
        if isinstance(effect, Close):
            run.effect = effect

    def _conclude(self, run: _Run, node: NodeId, failure: SwarmError | None) -> Effect:
        core, now_us = run.core, self._clock.now_us()
        if failure is None:
            assert run.result is not None, "an attempt ends with a result or a failure"
            return core.handle(ResultReceived(), now_us)
        if isinstance(failure, DeadlineExceeded):
            if core.remaining_ms(now_us) == 0:
                # It may have been too little time, or a node that swallows every task.
                self._note_failure(node, EXPIRY_S)
                return core.handle(DeadlinePassed(), now_us)
            failure = MalformedMessage("The executor stalled or gave up before the time was over.")
        if failure.elsewhere and not failure.later:
            self._note_failure(node, RECENT_FAILURE_S)
        return core.handle(AttemptFailed(failure), now_us)

    async def _choose(
        self, request: TaskRequest, excluded: frozenset[NodeId]
    ) -> Chosen | NobodyLeft:
        candidates = self._candidates(request)
        if not candidates:
            # A peer named a moment ago may still be answering.
            await self._peers.settle(SETTLE_S)
            candidates = self._candidates(request)
        choice = choose(candidates, excluded, self._draw)
        return NobodyLeft(self._own_reason(request)) if choice is None else Chosen(choice.node)

    def _own_reason(self, request: TaskRequest) -> SwarmError | None:
        """A skill that is here but broken or blocked is worth more than “nobody offers it”."""
        if request.on not in {None, self._node_id}:
            return None
        try:
            self._library.find(request.skill)
        except UnknownSkill:
            return None
        except SwarmError as reason:
            return reason
        return None

    def _candidates(self, request: TaskRequest) -> list[Candidate]:
        candidates = [
            Candidate(peer.node_id, peer.in_flight, offer.places, peer.recent_failures)
            for peer in self._peers.connected.values()
            if (offer := peer.offers.get(request.skill)) is not None
            and request.on in {None, peer.node_id}
        ]
        if request.on in {None, self._node_id}:
            own = self._library.skills().get(request.skill)
            if own is not None:
                places = own.terms.concurrency
                candidates.append(Candidate(self._node_id, self._workplace.gauge.value, places))
        return candidates

    def _attempt(self, run: _Run, offer: Offer) -> TaskUpdates:
        if offer.node == self._node_id:
            return self._run_here(run)
        peer = self._peers.connected.get(offer.node)
        if peer is None:
            raise PeerGone(f"Node {node_id_short(offer.node)} left before the task was sent.")
        return self._run_there(run, peer, offer)

    async def _run_here(self, run: _Run) -> TaskUpdates:
        core, task_id, request = run.core, run.task_id, run.core.request
        events = self._workplace.perform(
            self._node_id,
            task_id,
            request.skill,
            request.input,
            deadline_ms=core.remaining_ms(self._clock.now_us()),
        )
        async with aclosing(events):
            async for event in events:
                match event:
                    case Started():
                        yield TaskAccepted(self._node_id)
                    case Chunk(n, value, text):
                        yield TaskChunk(n, value, text)
                    case Progress(thousandths, note):
                        yield TaskProgress(thousandths, note)
                    case Artifact(name, media_type, sha256, content):
                        yield TaskArtifact(name, media_type, sha256, content)
                    case Finished(output, meters):
                        yield TaskCompleted(
                            task_id,
                            self._node_id,
                            core.attempts,
                            core.failures,
                            output,
                            usage_of(meters),
                        )

    async def _run_there(self, run: _Run, peer: Peer, offer: Offer) -> TaskUpdates:
        core, task_id, request, rpc = run.core, run.task_id, run.core.request, peer.rpc
        peer.in_flight += 1
        try:
            content = await pack(rpc, request.input)
            body = encode(OfferMessage(VERSION, task_id, offer.attempt, request.skill, content))
            async with rpc.stream(RUN_METHOD, body, timeout_ms=self._patience_ms(core)) as call:
                intake = AttemptIntake()
                async for item in call:
                    yield await self._received(run, peer, intake, decode_item(item))
                answer = decode(ResultMessage, await call.result())
            output = None
            if answer.output is not None:
                output = await self._unpack_json(run, peer, answer.output)
        finally:
            peer.in_flight -= 1
        yield TaskCompleted(
            task_id, peer.node_id, core.attempts, core.failures, output, answer.usage
        )

    def _patience_ms(self, core: Lifecycle) -> int:
        left_ms = core.remaining_ms(self._clock.now_us()) + END_GRACE_MS
        return min(left_ms, MAX_DEADLINE_MS)

    async def _unpack(self, run: _Run, peer: Peer, content: Content) -> bytes:
        if size_of(content) > OUTPUT_LIMIT:
            raise MalformedMessage(f"The executor sends more than {OUTPUT_LIMIT} bytes at once.")
        return await unpack(
            peer.rpc, content, limit_bytes=OUTPUT_LIMIT, timeout_ms=self._patience_ms(run.core)
        )

    async def _unpack_json(self, run: _Run, peer: Peer, content: Content) -> bytes:
        """Surfaces put it undecoded into their own JSON, where anything else would be a forgery."""
        data = await self._unpack(run, peer, content)
        if not is_json(data):
            raise MalformedMessage("The executor sent something that is not one JSON value.")
        return data

    async def _received(
        self, run: _Run, peer: Peer, intake: AttemptIntake, item: ItemMessage
    ) -> TaskUpdate:
        match item:
            case AcceptedMessage():
                return TaskAccepted(peer.node_id)
            case ChunkMessage(n, content, text):
                intake.chunk(n)
                value = await self._unpack_json(run, peer, content)
                return TaskChunk(n, value, value.decode() if text is None else text)
            case ProgressMessage(thousandths, note):
                return TaskProgress(thousandths, note)
            case ArtifactMessage(name, media_type, sha256, content):
                intake.artifact(name, size_of(content))
                data = await self._unpack(run, peer, content)
                if hashlib.sha256(data).digest() != sha256:
                    raise MalformedMessage(f"The artifact {name} does not match its hash.")
                return TaskArtifact(name, media_type, sha256, data)

    def _note_failure(self, node: NodeId, lasting_s: float) -> None:
        peer = self._peers.connected.get(node)
        if peer is None:
            return
        peer.recent_failures += 1
        asyncio.get_running_loop().call_later(lasting_s, self._forgive, peer)

    @staticmethod
    def _forgive(peer: Peer) -> None:
        peer.recent_failures -= 1
