from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.skills.digest import (
    FileEntry,
    Mode,
    content_digest,
    env_digest,
    replica_digest,
)


def entry(path: str, content: bytes = b"", mode: Mode = Mode.PLAIN) -> FileEntry:
    return FileEntry(path, mode, len(content), hashlib.sha256(content).digest())


def test_a_known_value():
    """Changing the encoding changes what every advert says: it must not happen by accident."""
    listing = [entry("handler.py", b"x"), entry("run.sh", b"y", Mode.EXECUTABLE)]
    preimage = b"swarm/skill/1"
    for path, mode, content in ((b"handler.py", 0, b"x"), (b"run.sh", 1, b"y")):
        preimage += len(path).to_bytes(4, "big") + path + bytes([mode])
        preimage += (1).to_bytes(8, "big") + hashlib.sha256(content).digest()
    assert content_digest(listing) == hashlib.sha256(preimage).digest()
    assert content_digest([]) == hashlib.sha256(b"swarm/skill/1").digest()


LISTINGS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.tuples(st.binary(max_size=4), st.sampled_from(Mode)),
    max_size=6,
).map(lambda d: [entry(path, content, mode) for path, (content, mode) in d.items()])


@given(LISTINGS, st.randoms(use_true_random=False))
def test_order_does_not_matter(listing, random):
    shuffled = list(listing)
    random.shuffle(shuffled)
    assert content_digest(shuffled) == content_digest(listing)


@given(LISTINGS, LISTINGS)
def test_different_listings_have_different_digests(one, two):
    same = sorted(map(repr, one)) == sorted(map(repr, two))
    assert (content_digest(one) == content_digest(two)) is same


def test_name_mode_and_content_count():
    base = content_digest([entry("a", b"x")])
    assert base != content_digest([entry("b", b"x")])
    assert base != content_digest([entry("a", b"y")])
    assert base != content_digest([entry("a", b"x", Mode.EXECUTABLE)])
    assert base != content_digest([entry("a", b"x", Mode.LINK)])


def test_a_path_listed_twice_is_our_bug():
    with pytest.raises(AssertionError):
        content_digest([entry("a"), entry("a")])


def test_names_that_are_not_unicode_have_their_own_bytes():
    assert content_digest([entry("a\udcff")]) != content_digest([entry("a\udcfe")])


def test_environments():
    base = env_digest("CPython 3.11.7", ["a==1", "b==2"])
    assert base == env_digest("CPython 3.11.7", ["b==2", "a==1", "a==1"])
    assert base != env_digest("CPython 3.11.8", ["a==1", "b==2"])
    assert base != env_digest("CPython 3.11.7", ["a==1b", "==2"])


def test_the_replica_digest_binds_all_four_in_their_places():
    parts = [bytes([n]) * 32 for n in range(4)]
    base = replica_digest(*parts)
    for index in range(4):
        changed = list(parts)
        changed[index] = b"\xff" * 32
        assert replica_digest(*changed) != base
    assert replica_digest(parts[1], parts[0], parts[2], parts[3]) != base
