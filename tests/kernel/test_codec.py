from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmharness.kernel.codec import decode, encode
from swarmharness.kernel.errors import Blame, MalformedMessage


class Inner(msgspec.Struct, array_like=True, frozen=True):
    text: str
    raw: bytes = b""


class Sample(msgspec.Struct, array_like=True, frozen=True):
    number: int
    inner: Inner
    many: tuple[int, ...] = ()


class LaterSample(msgspec.Struct, array_like=True, frozen=True):
    number: int
    inner: Inner
    many: tuple[int, ...] = ()
    added: str = "new"


samples = st.builds(
    Sample,
    number=st.integers(-(2**63), 2**64 - 1),
    inner=st.builds(Inner, text=st.text(), raw=st.binary()),
    many=st.lists(st.integers(0, 2**32)).map(tuple),
)
repeatable = settings(derandomize=True, max_examples=300)


def test_fields_travel_as_an_array_in_order():
    assert encode(Sample(1, Inner("a", b"b"), (2,))).hex() == "930192a161c401629102"


@repeatable
@given(sample=samples)
def test_what_is_encoded_is_read_back(sample):
    assert decode(Sample, encode(sample)) == sample
    assert decode(Sample, memoryview(encode(sample))) == sample


@repeatable
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_message_or_the_senders_fault(data):
    for kind in (Sample, dict[str, Any], str):
        try:
            decode(kind, data)
        except MalformedMessage as error:
            assert error.blame is Blame.PEER  # noqa: PT017  some bytes are messages


@repeatable
@given(sample=samples, cut=st.integers(1, 10))
def test_a_truncated_message_is_malformed(sample, cut):
    data = encode(sample)
    with pytest.raises(MalformedMessage):
        decode(Sample, data[: -min(cut, len(data))])


@repeatable
@given(sample=samples, tail=st.binary(min_size=1, max_size=4))
def test_trailing_bytes_are_malformed(sample, tail):
    with pytest.raises(MalformedMessage):
        decode(Sample, encode(sample) + tail)


@pytest.mark.parametrize("data", [b"\xa1\xff", b"\xa2\xed\xa0"], ids=["no utf-8", "a surrogate"])
def test_text_that_is_not_utf8_is_malformed(data):
    with pytest.raises(MalformedMessage):
        decode(str, data)


def test_nesting_without_end_is_malformed():
    with pytest.raises(MalformedMessage):
        decode(Any, b"\x91" * 200_000 + b"\x90")  # type: ignore[arg-type]


def test_a_claimed_length_costs_no_memory():
    with pytest.raises(MalformedMessage):
        decode(bytes, b"\xc6\xff\xff\xff\xff")
    with pytest.raises(MalformedMessage):
        decode(list[int], b"\xdd\xff\xff\xff\xff")


def test_the_error_names_the_kind_of_message():
    with pytest.raises(MalformedMessage, match="Sample"):
        decode(Sample, b"\x90")


def test_older_and_newer_versions_read_each_other():
    old = Sample(1, Inner("a"), (2,))
    assert decode(LaterSample, encode(old)).added == "new"
    assert decode(Sample, encode(LaterSample(1, Inner("a"), (2,)))) == old
