import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.network.errors import ProtocolViolation
from swarmharness.network.rpc import frames
from swarmharness.network.rpc.assembly import Assembly
from swarmharness.network.rpc.frames import FrameReader, encode_frame, encode_message
from swarmharness.network.rpc.limits import MAX_FRAME_BYTES


def test_a_frame_has_the_documented_bytes():
    frame = encode_frame(frames.REQUEST, frames.END, 7, b"ab")
    assert frame.hex() == "0000000201010000000000076162"
    assert FrameReader().feed(frame) == [(frames.REQUEST, frames.END, 7, b"ab")]


def test_the_largest_frame_passes_and_one_more_byte_does_not():
    reader = FrameReader()
    whole = encode_frame(frames.DATA, 0, 1, bytes(frames.MAX_PAYLOAD_BYTES))
    assert len(whole) == MAX_FRAME_BYTES
    assert len(reader.feed(whole)) == 1
    header = frames.HEADER.pack(frames.MAX_PAYLOAD_BYTES + 1, frames.DATA, 0, 0, 1)
    assert reader.feed(header) == []
    assert "announced" in reader.broken.sentence


def test_unknown_types_from_128_on_are_skipped_whatever_their_flags():
    reader = FrameReader()
    data = frames.HEADER.pack(3, 200, 255, 9, 77) + b"xyz" + encode_frame(frames.PING, 0, 0, b"")
    assert reader.feed(data) == [(frames.PING, 0, 0, b"")]
    assert reader.broken is None


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ((0, 11, 0, 0, 1), "type 11"),
        ((0, 127, 0, 0, 1), "type 127"),
        ((0, frames.PING, 0, 1, 0), "reserved"),
        ((0, frames.PING, frames.END, 0, 0), "flags"),
        ((0, frames.DATA, frames.STREAMED, 0, 1), "flags"),
        ((0, frames.REQUEST, 16, 0, 1), "flags"),
        ((2**32 - 1, 200, 0, 0, 0), "announced"),
    ],
)
def test_a_bad_header_breaks_the_reader_before_its_payload_comes(header, word):
    reader = FrameReader()
    good = encode_frame(frames.PING, 0, 0, b"")
    assert reader.feed(good + frames.HEADER.pack(*header)) == [(frames.PING, 0, 0, b"")]
    assert word in reader.broken.sentence


@given(
    payloads=st.lists(st.binary(max_size=300), max_size=8),
    cuts=st.lists(st.integers(1, 200), max_size=60),
)
def test_any_cutting_gives_the_same_frames(payloads, cuts):
    sent = [(frames.DATA, 0, index * 2 + 1, payload) for index, payload in enumerate(payloads)]
    data = b"".join(encode_frame(*frame) for frame in sent)
    reader = FrameReader()
    received = []
    for cut in cuts:
        received += reader.feed(data[:cut])
        data = data[cut:]
    received += reader.feed(data)
    assert received == sent


@given(chunks=st.lists(st.binary(max_size=100), max_size=40))
def test_arbitrary_bytes_are_frames_or_a_fault_and_never_pile_up(chunks):
    reader = FrameReader()
    for chunk in chunks:
        reader.feed(chunk)
        if reader.broken:
            assert reader.broken.blame == "peer"
            break
        assert len(reader._tail) <= MAX_FRAME_BYTES + len(chunk)


@given(size=st.integers(0, 300), background=st.booleans())
def test_a_message_of_any_size_is_assembled_again(size, background):
    payload = bytes(index % 251 for index in range(size))
    flags = frames.END | (frames.BACKGROUND if background else 0)
    reader, assembly = FrameReader(), Assembly()
    wire = encode_message(frames.RESPONSE, flags, 3, payload, 64)
    assert len(wire) == max(1, -(-size // 64))
    whole = [assembly.add(frame) for frame in reader.feed(b"".join(wire))]
    assert whole == [None] * (len(wire) - 1) + [payload]


def test_both_classes_may_be_under_way_at_once_but_not_two_messages_of_one():
    assembly = Assembly()
    assert assembly.add((frames.DATA, frames.MORE, 1, b"a")) is None
    assert assembly.add((frames.DATA, frames.MORE | frames.BACKGROUND, 3, b"x")) is None
    assert assembly.add((frames.DATA, 0, 1, b"b")) == b"ab"
    with pytest.raises(ProtocolViolation, match="interrupts"):
        assembly.add((frames.DATA, frames.BACKGROUND, 5, b"y"))


def test_an_unfinished_message_cannot_grow_without_end():
    assembly = Assembly()
    part = bytes(frames.MAX_PAYLOAD_BYTES)
    for _ in range(16):
        assert assembly.add((frames.REQUEST, frames.MORE, 1, part)) is None
    with pytest.raises(ProtocolViolation, match="longer"):
        assembly.add((frames.REQUEST, frames.MORE, 1, part))


def test_empty_parts_are_refused_because_they_would_be_free():
    with pytest.raises(ProtocolViolation, match="empty"):
        Assembly().add((frames.REQUEST, frames.MORE, 1, b""))
