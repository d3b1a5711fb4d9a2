"""The link model says when bytes that one node sends arrive at another, if they do.

Theory of operation. Each directed pair of nodes is a link with its own profile, its own
queue and its own stream of random draws, so that a fault on one link moves no draw on
another. Bytes wait until the link is free, take `size / bandwidth` to leave, then latency
and jitter. A lost packet is not lost to the reader: it is sent again one timeout later, and
everything behind it on the same stream waits (`after_us`); other streams overtake it.
That is what a reliable transport shows to its users, and all that this model knows.

All arithmetic is in integers: a run repeats exactly on every machine.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import final

import msgspec

from swarmharness.kernel.rng import Rng

PACKET_BYTES = 1400  # what fits an Ethernet frame after the usual headers
MIN_RETRANSMIT_US = 200_000  # the shortest timeout of Linux TCP
_US = 1_000_000


class Cut(StrEnum):
    """How a link fails."""

    BLACKHOLE = "blackhole"
    """Nothing arrives and nobody says so; held bytes go on after healing."""
    REFUSE = "refuse"
    """Dialling is refused at once and live connections break."""


@final
class LinkProfile(msgspec.Struct, frozen=True):
    """The quality of one directed link; the default is instant, endless and perfect."""

    latency_us: int = 0
    jitter_us: int = 0
    """Uniform in 0 .. jitter_us, drawn for each sending."""
    bytes_per_second: int = 0
    """0 is no limit."""
    loss_ppm: int = 0
    """For each packet."""
    reorder_ppm: int = 0
    """For each sending: the chance that other streams overtake it."""
    reorder_us: int = 0

    @property
    def retransmit_us(self) -> int:
        """What one loss costs: two round trips, as if both ways were alike."""
        return max(MIN_RETRANSMIT_US, 4 * self.latency_us)


PERFECT = LinkProfile()
LAN = LinkProfile(latency_us=300, jitter_us=600, bytes_per_second=125_000_000, loss_ppm=100)
WAN = LinkProfile(
    latency_us=45_000,
    jitter_us=60_000,
    bytes_per_second=1_250_000,
    loss_ppm=1000,
    reorder_ppm=5000,
    reorder_us=20_000,
)
MOBILE = LinkProfile(
    latency_us=90_000,
    jitter_us=400_000,
    bytes_per_second=250_000,
    loss_ppm=10_000,
    reorder_ppm=10_000,
    reorder_us=50_000,
)


@final
class LinkModel:
    """All links between named nodes. Links that nobody configured have `default`."""

    def __init__(self, seed: int = 0, default: LinkProfile = PERFECT) -> None:
        self.default = default
        self._seed = seed
        self._profiles: dict[tuple[str, str], LinkProfile] = {}
        self._cuts: dict[tuple[str, str], Cut] = {}
        self._free_us: dict[tuple[str, str], int] = {}
        self._rngs: dict[tuple[str, str], Rng] = {}
        self._readers: dict[str, int] = {}
        self._reader_free_us: dict[str, int] = {}
        self._inbound_blocked: dict[str, None] = {}
        self._relay: str | None = None

    def set_profile(self, source: str, destination: str, profile: LinkProfile) -> None:
        """One direction."""
        self._profiles[source, destination] = profile

    def profile(self, source: str, destination: str) -> LinkProfile:
        return self._profiles.get((source, destination), self.default)

    def cut(self, source: str, destination: str, how: Cut) -> None:
        """One direction; the other way keeps working."""
        self._cuts[source, destination] = how

    def heal(self, source: str, destination: str) -> None:
        self._cuts.pop((source, destination), None)

    def cut_of(self, route: tuple[str, ...]) -> Cut | None:
        """The first failure on the way."""
        for link in pairwise(route):
            if link in self._cuts:
                return self._cuts[link]
        return None

    def slow_reader(self, node: str, bytes_per_second: int) -> None:
        """Everything that arrives at `node` is taken in at this rate; 0 lifts the limit."""
        self._readers[node] = bytes_per_second

    def block_inbound(self, node: str) -> None:
        """Like a node behind a home router: it can dial, and cannot be dialled."""
        self._inbound_blocked[node] = None

    def set_relay(self, node: str | None) -> None:
        """Who passes bytes on to nodes that cannot be dialled; None is nobody."""
        self._relay = node

    def route(self, dialer: str, listener: str) -> tuple[str, ...] | None:
        """The nodes a new connection passes through, or None if the listener cannot be reached."""
        if listener not in self._inbound_blocked:
            return (dialer, listener)
        if self._relay is None:
            return None
        return (dialer, self._relay, listener)

    def carry(self, now_us: int, route: tuple[str, ...], size: int, after_us: int = 0) -> int:
        """When `size` bytes are there; never before `after_us`, the last arrival on their stream.

        The caller asks `cut_of` first: bytes on a cut link have no arrival.
        """
        assert self.cut_of(route) is None
        for link in pairwise(route):
            now_us = self._cross(now_us, link, size)
        return max(now_us, after_us)

    def round_trip_us(self, route: tuple[str, ...]) -> int:
        """Without queueing, jitter and loss."""
        there_and_back = (
            *pairwise(route),
            *pairwise(route[::-1]),
        )
        return sum(self.profile(*link).latency_us for link in there_and_back)

    def _cross(self, now_us: int, link: tuple[str, str], size: int) -> int:
        profile = self.profile(*link)
        leaves_us = max(now_us, self._free_us.get(link, 0))
        leaves_us += _duration_us(size, profile.bytes_per_second)
        self._free_us[link] = leaves_us
        arrives_us = leaves_us + profile.latency_us + self._disturbance_us(link, profile, size)
        reader = link[1]
        if rate := self._readers.get(reader, 0):
            arrives_us = max(arrives_us, self._reader_free_us.get(reader, 0))
            arrives_us += _duration_us(size, rate)
            self._reader_free_us[reader] = arrives_us
        return arrives_us

    def _disturbance_us(self, link: tuple[str, str], profile: LinkProfile, size: int) -> int:
        """A link without disturbances draws nothing, which keeps perfect links fast."""
        rng = self._rngs.get(link)
        if rng is None:
            rng = self._rngs[link] = Rng(self._seed, "link", f"{link[0]}>{link[1]}")
        extra_us = rng.between(0, profile.jitter_us) if profile.jitter_us else 0
        if profile.reorder_ppm and rng.happens(profile.reorder_ppm):
            extra_us += profile.reorder_us
        if profile.loss_ppm:
            packets = max(1, -(-size // PACKET_BYTES))
            if sum(rng.happens(profile.loss_ppm) for _ in range(packets)):
                extra_us += profile.retransmit_us
        return extra_us


def _duration_us(size: int, bytes_per_second: int) -> int:
    return -(-size * _US // bytes_per_second) if bytes_per_second else 0
