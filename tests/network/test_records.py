import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.network.errors import ProtocolViolation
from swarmharness.network.records import (
    CLOSE_TEXT_BYTES_MAX,
    DATA_BYTES_MAX,
    RECORD_BYTES_MAX,
    RecordKind,
    RecordReader,
    attach_record,
    close_in,
    close_record,
    data_record,
    number_in,
    number_record,
    record,
)

CONTROL = [
    record(RecordKind.CHALLENGE, b"\1" + b"n" * 32),
    record(RecordKind.AUTH, b"a" * 145),
    record(RecordKind.WELCOME),
    record(RecordKind.OPEN),
    record(RecordKind.FIN),
    number_record(RecordKind.RESET, 7),
    number_record(RecordKind.STOP, 8),
    number_record(RecordKind.CREDIT, 65536),
    number_record(RecordKind.ASK, 1),
    attach_record(3, b"t" * 16),
    record(RecordKind.ABANDON, b"t" * 16),
    close_record(4, "idle"),
]
messages = st.lists(
    st.one_of(st.sampled_from(CONTROL), st.binary(min_size=1, max_size=3000).map(data_record)),
    max_size=12,
)


def read_all(wire, sizes):
    """Records with adjacent data joined, since data comes in pieces."""
    reader, got, at = RecordReader(), [], 0
    while at < len(wire):
        size = next(sizes)
        for kind, payload in reader.feed(memoryview(wire)[at : at + size]):
            if kind == RecordKind.DATA and got and got[-1][0] == RecordKind.DATA:
                got[-1] = (kind, got[-1][1] + bytes(payload))
            else:
                got.append((kind, bytes(payload)))
        at += size
    return got


@given(messages, st.lists(st.integers(1, 700), min_size=1, max_size=20))
def test_any_cutting_of_the_bytes_gives_the_same_records(wires, cuts):
    wire = b"".join(wires)

    def cycle():
        while True:
            yield from cuts

    assert read_all(wire, cycle()) == read_all(wire, iter([len(wire)]))


def test_the_wire_form_is_one_byte_of_kind_and_three_of_length():
    assert record(RecordKind.FIN).hex() == "06000000"
    assert number_record(RecordKind.RESET, 258).hex() == "0700000400000102"
    assert data_record(b"abc").hex() == "05000003616263"
    assert data_record(memoryview(b"abc")) == data_record(b"abc")
    assert attach_record(1, b"t" * 16).hex() == "0b00001400000001" + "74" * 16
    assert len(data_record(b"x" * DATA_BYTES_MAX)) == RECORD_BYTES_MAX


def test_numbers_and_sentences_survive_the_way():
    ((_, payload),) = RecordReader().feed(memoryview(number_record(RecordKind.CREDIT, 9)))
    assert number_in(payload) == 9
    ((_, payload),) = RecordReader().feed(memoryview(close_record(5, "zu groß")))
    assert close_in(payload) == (5, "zu groß")


def test_a_long_sentence_is_cut_between_characters():
    ((_, payload),) = RecordReader().feed(memoryview(close_record(5, "ß" * 500)))
    code, text = close_in(payload)
    assert code == 5
    assert text == "ß" * (CLOSE_TEXT_BYTES_MAX // 2)


def test_what_could_steer_a_terminal_is_replaced():
    assert close_in(b"\0\5\x1b[2Jhi\n\xff") == (5, "?[2Jhi?\ufffd")


def test_numbers_beyond_the_field_are_capped():
    assert number_record(RecordKind.RESET, 2**40)[4:] == b"\xff" * 4


@pytest.mark.parametrize("kind", list(RecordKind))
def test_a_length_outside_the_kind_s_bounds_is_refused_at_the_header(kind):
    header = (kind << 24 | 0xFFFFFF).to_bytes(4, "big")
    with pytest.raises(ProtocolViolation, match=rf"{kind.name} record of 16777215 bytes"):
        RecordReader().feed(memoryview(header))


def test_empty_data_and_unknown_kinds_are_refused():
    with pytest.raises(ProtocolViolation, match="DATA record of 0"):
        RecordReader().feed(memoryview(b"\x05\0\0\0"))
    with pytest.raises(ProtocolViolation, match="unknown kind 99"):
        RecordReader().feed(memoryview(b"\x63\0\0\0"))


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_give_records_or_a_violation_and_little_is_held(data):
    reader = RecordReader()
    try:
        records = reader.feed(memoryview(data))
    except ProtocolViolation:
        return
    assert sum(len(payload) for _, payload in records) <= len(data)
    assert len(reader._tail) < 4 + 2 + CLOSE_TEXT_BYTES_MAX
