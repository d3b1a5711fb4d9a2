"""What a peer is told of skills, and what is believed of what it tells."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from node.memory_swarm import served
from swarmharness.kernel.errors import MalformedMessage
from swarmharness.network.errors import LimitExceeded
from swarmharness.network.io.incoming_call import IncomingCall
from swarmharness.node.offering import Offering, describe_json, description_from
from swarmharness.skills.messages import decode_offers


def test_a_description_comes_back_as_it_was_told() -> None:
    assert description_from(describe_json(served("echo")))["name"] == "echo"


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"null", b'"x"', b"{", b"\xff", b'{"n":1e999}', b"[" * 100_000]
)
def test_a_description_that_is_no_object_is_malformed(answer: bytes) -> None:
    with pytest.raises(MalformedMessage):
        description_from(answer)


class Watcher:
    """A peer's streamed call, as the method sees it."""

    is_streamed = True

    def __init__(self, connection: object) -> None:
        self.connection = connection
        self.told: list[list[str]] = []

    async def send(self, item: bytes) -> None:
        self.told.append([offer.name for offer in decode_offers(item).skills])


async def test_a_second_watch_of_a_connection_replaces_the_first() -> None:
    shelf = {"echo": served("echo"), "more": served("more")}
    offering = Offering(shelf.__getitem__, sandbox_tier="1")
    offering.add(shelf["echo"])
    connection = object()
    first, second, other = Watcher(connection), Watcher(connection), Watcher(object())
    calls = []
    for watcher in (first, second, other):
        calls.append(asyncio.ensure_future(offering.watch(cast("IncomingCall", watcher))))
        await asyncio.sleep(0)
    with pytest.raises(LimitExceeded, match="newer watch"):
        await calls[0]
    offering.add(shelf["more"])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (first.told, second.told, other.told) == (
        [["echo"]],
        [["echo"], ["echo", "more"]],
        [["echo"], ["echo", "more"]],
    )
    calls[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[1]
    offering.close()
    assert await calls[2] == b""
