"""What a peer is told of skills, and what is believed of what it tells."""

from __future__ import annotations

import pytest

from node.memory_swarm import served
from swarmharness.kernel.errors import MalformedMessage
from swarmharness.node.offering import describe_json, description_from


def test_a_description_comes_back_as_it_was_told() -> None:
    assert description_from(describe_json(served("echo")))["name"] == "echo"


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"null", b'"x"', b"{", b"\xff", b'{"n":1e999}', b"[" * 100_000]
)
def test_a_description_that_is_no_object_is_malformed(answer: bytes) -> None:
    with pytest.raises(MalformedMessage):
        description_from(answer)
