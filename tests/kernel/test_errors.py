import datetime as dt
import importlib
import pkgutil
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import swarmharness
from swarmharness.kernel.codec import decode, encode
from swarmharness.kernel.errors import (
    DATA_LIMIT,
    SENTENCE_LIMIT,
    BadIdentifier,
    Blame,
    ErrorRecord,
    InternalError,
    MalformedMessage,
    RemoteError,
    SwarmError,
    catalogue,
    from_record,
)
from swarmharness.kernel.remote_data import DEPTH_LIMIT

FLOORS = {"kernel", "network", "skills", "tasks", "routing", "node", "surfaces"}


def _import_every_errors_module() -> None:
    for module in pkgutil.walk_packages(swarmharness.__path__, "swarmharness."):
        if module.name.endswith(".errors"):
            importlib.import_module(module.name)


def _every_class(root: type[SwarmError] = SwarmError) -> list[type[SwarmError]]:
    return [c for sub in root.__subclasses__() for c in (sub, *_every_class(sub))]


_import_every_errors_module()


def _of_the_product() -> list[type[SwarmError]]:
    return [cls for cls in _every_class() if cls.__module__.startswith("swarmharness.")]


@pytest.mark.parametrize("cls", _of_the_product(), ids=lambda cls: cls.__name__)
def test_every_error_says_all_that_an_error_must(cls):
    assert re.fullmatch(r"[a-z]+(\.[a-z0-9]+(_[a-z0-9]+)*)+", cls.code)
    assert cls.code.split(".")[0] in FLOORS
    assert isinstance(cls.blame, Blame)
    assert cls.hint
    assert len(cls.hint) <= SENTENCE_LIMIT
    assert cls.__doc__
    assert 400 <= cls.http_status < 600
    assert 1 <= cls.exit_code < 256


def test_the_catalogue_is_sorted_and_complete():
    codes = list(catalogue())
    assert codes == sorted(codes)
    assert set(_of_the_product()) <= set(catalogue().values())


def test_a_code_cannot_be_used_twice():
    with pytest.raises(AssertionError, match="defined twice"):
        type("Copy", (SwarmError,), {"code": InternalError.code, "hint": "x"})


def test_an_error_without_a_hint_cannot_be_defined():
    with pytest.raises(AssertionError, match="no hint"):
        type("Mute", (SwarmError,), {"code": "kernel.mute"})
    assert "kernel.mute" not in catalogue()


def test_an_instance_may_carry_a_better_hint_without_changing_the_class():
    error = BadIdentifier("No.", hint="Look closer.")
    assert error.hint == "Look closer."
    assert BadIdentifier.hint != "Look closer."
    assert str(error) == error.sentence == "No."


def test_data_is_copied():
    data = {"n": 1}
    error = InternalError("x", data=data)
    data["n"] = 2
    assert error.data == {"n": 1}


@pytest.mark.parametrize("extra", [0, 1, 1000])
def test_a_sentence_is_cut_at_its_limit(extra):
    sentence = InternalError("x" * (SENTENCE_LIMIT + extra)).sentence
    assert len(sentence) == SENTENCE_LIMIT
    assert sentence.endswith("…") == (extra > 0)


def test_data_over_the_limit_is_left_out_whole():
    fits = {"raw": b"x" * (DATA_LIMIT - 8)}  # a map header, the key and a length
    assert len(msgspec.msgpack.encode(fits)) == DATA_LIMIT
    assert InternalError("x", data=fits).record().data == fits
    too_large = {"raw": b"x" * (DATA_LIMIT - 7)}
    assert set(InternalError("x", data=too_large).record().data) == {"left_out"}


@pytest.mark.parametrize("cls", _of_the_product(), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("remote", [True, False])
def test_every_error_crosses_a_wire_as_the_same_class(cls, remote):
    sent = cls("It went wrong.", hint="Do better.", data={"n": 1})
    received = from_record(decode(ErrorRecord, encode(sent.record())), remote=remote)
    assert type(received) is cls
    assert (received.code, received.sentence, received.hint, received.data) == (
        cls.code,
        "It went wrong.",
        cls.hint if remote else "Do better.",  # a peer does not advise our operator
        {"n": 1},
    )
    expected = Blame.PEER if remote and cls.blame is Blame.SELF else cls.blame
    assert received.blame is expected
    assert cls.blame is sent.blame  # the class itself is untouched


def test_an_unknown_code_is_kept():
    record = ErrorRecord("future.thing_wrong", "world", "Something new.", "Wait.", {"n": 1})
    error = from_record(record, remote=True)
    assert type(error) is RemoteError
    assert error.code == "future.thing_wrong"
    assert error.blame is Blame.WORLD
    assert RemoteError.code == "kernel.remote_error"
    assert error.record() == record


def test_an_unknown_blame_is_the_peers():
    error = from_record(ErrorRecord("future.thing_wrong", "nobody", "x"), remote=True)
    assert error.blame is Blame.PEER


def test_a_peers_words_cannot_steer_a_terminal():
    record = ErrorRecord("future\x1b[2J", "world", "one\ntwo\x1b[31m", "\u202ekcab")
    error = from_record(record, remote=True)
    assert error.code == "future\\x1b[2J"
    assert error.sentence == "one\\x0atwo\\x1b[31m"
    assert error.hint == "\\u202ekcab"


GOOD_ATTEMPT = {"node": "ab", "started": True, "code": "x.y", "sentence": "No."}
GOOD_FAULT = {"loc": ["a", 1], "msg": "too long", "type": "t"}


def deep(levels):
    return [deep(levels - 1)] if levels else []


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        msgspec.msgpack.Ext(5, b"x"),
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        {1: "x"},
        {(1, 2): "x"},
        {b"k": 1},
        float("nan"),
        float("inf"),
        deep(DEPTH_LIMIT - 1),
        "x" * DATA_LIMIT,
        [0] * DATA_LIMIT,
    ],
    ids=lambda value: type(value).__name__,
)
def test_data_that_is_not_modest_json_is_left_out(value):
    raw = encode(["skills.invalid_input", "caller", "No.", "", {"n": 1, "extra": [value]}])
    error = from_record(decode(ErrorRecord, raw), remote=True)
    assert set(error.data) == {"left_out"}


@pytest.mark.parametrize("key", ["attempts", "detail"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "text",
        {"node": "a"},
        ["text"],
        [None],
        [{"node": 1, "code": "x", "sentence": "y", "loc": 5}],
        [{"msg": 5}],
        [{"loc": [None]}],
    ],
)
def test_what_readers_look_into_has_its_form_or_is_dropped(key, value):
    error = from_record(ErrorRecord("x.y", "peer", "No.", "", {key: value, "n": 1}), remote=True)
    assert error.data == {"n": 1}


def test_well_formed_attempts_and_details_are_kept():
    data = {"attempts": [GOOD_ATTEMPT], "detail": [GOOD_FAULT, {}]}
    assert from_record(ErrorRecord("x.y", "peer", "No.", "", data), remote=True).data == data


@settings(derandomize=True, max_examples=200)
@given(
    code=st.text(max_size=400),
    blame=st.text(max_size=20),
    sentence=st.text(max_size=1000),
    hint=st.text(max_size=1000),
)
def test_any_record_becomes_a_bounded_error(code, blame, sentence, hint):
    error = from_record(ErrorRecord(code, blame, sentence, hint), remote=True)
    assert isinstance(error, SwarmError)
    assert error.blame is not Blame.SELF
    for text in (error.code, error.sentence, error.hint):
        assert len(text) <= SENTENCE_LIMIT


@settings(derandomize=True, max_examples=200)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_record_or_malformed(data):
    try:
        record = decode(ErrorRecord, data)
    except MalformedMessage:
        return
    from_record(record, remote=True)
