from __future__ import annotations

import hashlib

import pytest

from swarmharness.kernel.errors import SwarmError
from swarmharness.skills.call import Artifact, Chunk, Progress, Started
from swarmharness.skills.errors import (
    BadOutput,
    HandlerFailed,
    InvalidInput,
    OutputTooLarge,
    ResourceExceeded,
    RunCancelled,
    SandboxProtocolBroken,
)
from swarmharness.skills.guest import call as guest_call
from swarmharness.skills.guest import frames as guest_frames
from swarmharness.skills.sandbox.guest_frames import (
    PIECE,
    ArtifactFrame,
    CallFrame,
    ChunkFrame,
    EndFrame,
    ErrorFrame,
    Fault,
    PieceFrame,
    ProgressFrame,
    ResultFrame,
    StartedFrame,
)
from swarmharness.skills.sandbox.transcript import (
    MAX_ARTIFACT_BYTES,
    MAX_ARTIFACTS,
    MAX_PROGRESS,
    Answer,
    Transcript,
)

LIMIT = 100


def started() -> Transcript:
    transcript = Transcript("c1", LIMIT)
    assert transcript.accept(StartedFrame("c1")) == Started()
    return transcript


def test_a_plain_call() -> None:
    transcript = started()
    assert transcript.accept(ResultFrame(b'{"a":1}')) == Answer(b'{"a":1}')  # type: ignore[arg-type]
    assert transcript.has_ended
    assert transcript.bytes_out == 7


def test_a_stream_of_text_and_of_values() -> None:
    transcript = started()
    assert transcript.accept(ChunkFrame(0, 0, 'a"ü'.encode())) == Chunk(
        0,
        '"a\\"ü"'.encode(),  # type: ignore[arg-type]
        'a"ü',
    )
    assert transcript.accept(ChunkFrame(1, 3, b"{ }text")) == Chunk(1, b"{ }", "text")  # type: ignore[arg-type]
    assert transcript.accept(EndFrame(2)) == Answer(None)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([StartedFrame("c2")], id="another call's id"),
        pytest.param([StartedFrame("c1"), StartedFrame("c1")], id="started twice"),
        pytest.param([ResultFrame(b"1")], id="result before the start"),
        pytest.param([PieceFrame(bytes(PIECE))], id="piece before the start"),
        pytest.param([StartedFrame("c1"), ChunkFrame(1, 0, b"")], id="first chunk missing"),
        pytest.param(
            [StartedFrame("c1"), ChunkFrame(0, 0, b""), ChunkFrame(0, 0, b"")], id="chunk again"
        ),
        pytest.param([StartedFrame("c1"), ChunkFrame(0, 9, b"1")], id="cut beyond the content"),
        pytest.param([StartedFrame("c1"), ChunkFrame(0, 2, b"1,x")], id="chunk no json"),
        pytest.param([StartedFrame("c1"), ChunkFrame(0, 0, b"\xff")], id="text no utf-8"),
        pytest.param([StartedFrame("c1"), ResultFrame(b"1 2")], id="result no json"),
        pytest.param(
            [StartedFrame("c1"), ChunkFrame(0, 0, b""), ResultFrame(b"1")], id="both ways"
        ),
        pytest.param([StartedFrame("c1"), EndFrame(1)], id="miscounted"),
        pytest.param([StartedFrame("c1"), ResultFrame(b"1"), EndFrame(0)], id="after the end"),
        pytest.param(
            [StartedFrame("c1"), ErrorFrame("memory", ""), ErrorFrame("memory", "")],
            id="two errors",
        ),
        pytest.param(
            [StartedFrame("c1"), PieceFrame(bytes(PIECE)), EndFrame(0)], id="piece of nothing"
        ),
        pytest.param(
            [StartedFrame("c1"), ArtifactFrame("a", b""), ArtifactFrame("a", b"")],
            id="artifact twice",
        ),
    ],
)
def test_what_no_honest_guest_sends_is_a_breach(frames: list[CallFrame]) -> None:
    transcript = Transcript("c1", LIMIT)
    for frame in frames[:-1]:
        transcript.accept(frame)
    with pytest.raises(SandboxProtocolBroken):
        transcript.accept(frames[-1])


def test_output_up_to_the_limit_and_one_more() -> None:
    assert isinstance(started().accept(ResultFrame(b'"' + b"x" * (LIMIT - 2) + b'"')), Answer)
    with pytest.raises(OutputTooLarge):
        started().accept(ResultFrame(b'"' + b"x" * (LIMIT - 1) + b'"'))


def test_chunks_count_together() -> None:
    transcript = started()
    transcript.accept(ChunkFrame(0, 0, bytes(LIMIT)))
    with pytest.raises(OutputTooLarge):
        transcript.accept(ChunkFrame(1, 0, b"x"))


def test_pieces_are_joined_and_bounded() -> None:
    transcript = Transcript("c1", 3 * PIECE)
    transcript.accept(StartedFrame("c1"))
    transcript.accept(PieceFrame(b'"' + b"a" * (PIECE - 1)))
    transcript.accept(PieceFrame(b"b" * PIECE))
    whole = b'"' + b"a" * (PIECE - 1) + b"b" * PIECE + b'"'
    assert transcript.accept(ResultFrame(b'"')) == Answer(whole)  # type: ignore[arg-type]
    transcript = started()
    block = bytes(PIECE)
    for _ in range(MAX_ARTIFACT_BYTES // PIECE):
        transcript.accept(PieceFrame(block))
    with pytest.raises(OutputTooLarge):
        transcript.accept(PieceFrame(block))


@pytest.mark.parametrize("size", [0, 1, 2, PIECE - 1, PIECE + 1])
def test_a_piece_of_any_other_size_is_refused(size: int) -> None:
    with pytest.raises(SandboxProtocolBroken):
        started().accept(PieceFrame(bytes(size)))


def test_host_and_guest_agree_on_what_a_call_may_send() -> None:
    assert PIECE == guest_frames.PIECE
    assert MAX_PROGRESS == guest_call.MAX_PROGRESS


def test_an_artifact_is_named_typed_and_hashed_here() -> None:
    assert started().accept(ArtifactFrame("plot.png", b"data")) == Artifact(
        "plot.png", "image/png", hashlib.sha256(b"data").digest(), b"data"
    )


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "x" * 129, "ü", "a\n", "a\0"])
def test_an_artifact_with_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(BadOutput):
        started().accept(ArtifactFrame(name, b""))


def test_artifacts_are_counted_and_weighed() -> None:
    transcript = started()
    for number in range(MAX_ARTIFACTS):
        transcript.accept(ArtifactFrame(str(number), b""))
    with pytest.raises(OutputTooLarge):
        transcript.accept(ArtifactFrame("more", b""))
    transcript = started()
    transcript.accept(ArtifactFrame("all", bytes(MAX_ARTIFACT_BYTES)))
    with pytest.raises(OutputTooLarge):
        transcript.accept(ArtifactFrame("more", b"x"))


def test_progress_beyond_its_limit_is_a_breach() -> None:
    transcript = started()
    frame = ProgressFrame(10, "on")
    assert all(transcript.accept(frame) == Progress(10, "on") for _ in range(MAX_PROGRESS))
    with pytest.raises(SandboxProtocolBroken):
        transcript.accept(frame)


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (ErrorFrame("handler_error", "ValueError: no"), HandlerFailed),
        (ErrorFrame("bad_output", "no"), BadOutput),
        (ErrorFrame("memory", "no"), ResourceExceeded),
        (ErrorFrame("cancelled", "no"), RunCancelled),
        (ErrorFrame("invalid_input", "no", [Fault(["a", 0], "bad", "int")]), InvalidInput),
    ],
)
def test_each_error_of_the_guest_has_its_class(frame: ErrorFrame, kind: type[SwarmError]) -> None:
    error = Transcript("c1", LIMIT).accept(frame)
    assert type(error) is kind
    if kind is InvalidInput:
        assert isinstance(error, InvalidInput)
        assert error.data["detail"] == [{"loc": ["a", 0], "msg": "bad", "type": "int"}]
