from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.skills.call import is_json
from swarmharness.skills.errors import SandboxProtocolBroken
from swarmharness.skills.guest import frames as guest_side
from swarmharness.skills.sandbox.guest_frames import (
    CALL_FRAMES,
    CONTROL_FRAMES,
    MAX_FRAME,
    CallFrame,
    ChunkFrame,
    DoneFrame,
    ErrorFrame,
    GuestFrameReader,
    PieceFrame,
    encode_call,
)

DEEP = 50_000


def reader() -> GuestFrameReader[CallFrame]:
    return GuestFrameReader(CALL_FRAMES)


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def read_all(data: bytes) -> list[CallFrame]:
    frames = reader()
    frames.feed(data)
    found = []
    while (frame := frames.next()) is not None:
        found.append(frame)
    return found


def test_a_length_over_the_limit_is_refused_before_its_bytes_arrive() -> None:
    frames = reader()
    frames.feed(struct.pack(">I", MAX_FRAME + 1))
    with pytest.raises(SandboxProtocolBroken, match=str(MAX_FRAME + 1)):
        frames.next()


def test_a_frame_of_exactly_the_limit_is_read() -> None:
    overhead = len(msgspec.msgpack.encode({"t": "piece", "d": bytes(1 << 20)})) - (1 << 20)
    body = msgspec.msgpack.encode({"t": "piece", "d": bytes(MAX_FRAME - overhead)})
    assert len(body) == MAX_FRAME
    assert read_all(framed(body)) == [PieceFrame(bytes(MAX_FRAME - overhead))]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="no msgpack"),
        pytest.param(msgspec.msgpack.encode([1]), id="no map"),
        pytest.param(msgspec.msgpack.encode({"d": b""}), id="no kind"),
        pytest.param(msgspec.msgpack.encode({"t": "surprise"}), id="unknown kind"),
        pytest.param(msgspec.msgpack.encode({"t": "started", "id": 7}), id="wrong type"),
        pytest.param(msgspec.msgpack.encode({"t": "end", "n": 0, "x": 1}), id="unknown key"),
        pytest.param(msgspec.msgpack.encode({"t": "end", "n": -1}), id="negative"),
        pytest.param(msgspec.msgpack.encode({"t": "end", "n": 2**63}), id="huge"),
        pytest.param(msgspec.msgpack.encode({"t": "end", "n": True}), id="bool for int"),
        pytest.param(msgspec.msgpack.encode({"t": "end", "n": 0}) + b"\0", id="trailing byte"),
        pytest.param(msgspec.msgpack.encode({1: 2, "t": "end", "n": 0}), id="key no string"),
        pytest.param(b"\x82\xa1t\xa5piece\xa1d\xc7\x01\x05\x00", id="extension type"),
        pytest.param(b"\x82\xa1t\xa5piece\xa1d" + b"\x91" * DEEP, id="depth bomb for a value"),
        pytest.param(b"\x91" * DEEP, id="depth bomb"),
        pytest.param(b"\x82\xa1x" + b"\x91" * DEEP, id="depth bomb before the kind"),
        pytest.param(b"\x82\xa1t\xa7started\xa2id\xa1\xff", id="text no utf-8"),
        pytest.param(
            msgspec.msgpack.encode({"t": "error", "code": "own", "message": ""}), id="own code"
        ),
        pytest.param(
            msgspec.msgpack.encode({"t": "progress", "p": 1001, "note": ""}), id="over the whole"
        ),
        pytest.param(
            msgspec.msgpack.encode({"t": "error", "code": "memory", "message": "x" * 2001}),
            id="long message",
        ),
    ],
)
def test_a_malformed_frame_is_a_breach(body: bytes) -> None:
    with pytest.raises(SandboxProtocolBroken):
        read_all(framed(body))


def test_frames_arrive_in_any_cuts() -> None:
    data = guest_side.encode({"t": "started", "id": "c1"}) + guest_side.encode({"t": "end", "n": 0})
    frames = reader()
    seen = []
    for byte in data:
        frames.feed(bytes([byte]))
        if (frame := frames.next()) is not None:
            seen.append(type(frame).__name__)
    assert seen == ["StartedFrame", "EndFrame"]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_frames_or_a_breach(data: bytes) -> None:
    try:
        read_all(data)
    except SandboxProtocolBroken:
        return


@given(st.binary(max_size=64), st.integers(min_value=0, max_value=2**40))
def test_what_the_guest_writes_the_host_reads(content: bytes, n: int) -> None:
    frame = {"t": "chunk", "n": n, "cut": 0}
    assert read_all(guest_side.encode_with_pieces(frame, content)) == [ChunkFrame(n, 0, content)]


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 5])
def test_long_content_travels_in_pieces_in_both_directions(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    *pieces, last = read_all(guest_side.encode_with_pieces({"t": "result"}, content))
    assert b"".join(piece.d for piece in [*pieces, last]) == content  # type: ignore[union-attr]
    buffer = guest_side.FrameBuffer()
    buffer.feed(encode_call({"t": "call", "id": "c1"}, content))
    received = b""
    while (frame := buffer.next()) is not None:
        received += frame["d"]
    assert received == content


def test_an_error_with_details_is_read() -> None:
    fault = {"loc": ["a", 1], "msg": "bad", "type": "int"}
    (frame,) = read_all(
        guest_side.encode(
            {"t": "error", "code": "invalid_input", "message": "m", "detail": [fault]}
        )
    )
    assert isinstance(frame, ErrorFrame)
    assert msgspec.to_builtins(frame.detail) == [fault]


def test_a_call_frame_is_no_control_frame() -> None:
    frames = GuestFrameReader(CONTROL_FRAMES)
    frames.feed(guest_side.encode({"t": "result", "d": b"1"}))
    with pytest.raises(SandboxProtocolBroken):
        frames.next()
    other = GuestFrameReader(CONTROL_FRAMES)
    other.feed(
        guest_side.encode({"t": "done", "id": "c1", "signal": 0, "status": 0, "clean": True})
    )
    assert other.next() == DoneFrame("c1", 0, 0, clean=True)


@pytest.mark.parametrize("text", [b"1", b'{"a": [1, null]}', b' "x" ', "“ü”".join('""').encode()])
def test_json_is_recognised(text: bytes) -> None:
    assert is_json(text)


@pytest.mark.parametrize(
    "text",
    [b"", b"1 2", b"NaN", b"[1,]", b"{a:1}", b'"\xff"', b'"\x01"', b"01", b"[" * DEEP, b'1,"x":2'],
)
def test_what_is_not_json_is_not_taken_for_it(text: bytes) -> None:
    assert not is_json(text)
