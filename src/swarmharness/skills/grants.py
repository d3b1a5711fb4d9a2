"""A grant is what the operator allows one skill; terms are what it finally runs under.

The folder requests, the operator grants, ceilings bound both. Permissions (network, variables,
packages from outside) are given only by a grant, and a skill that lacks one is not run with
less: it is blocked, because an author who asks for a network means to use it. Quantities need
no grant: the operator's number, else the folder's, else the default, cut to the ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import msgspec

from swarmharness.skills.errors import BadGrant, BadNetworkRule
from swarmharness.skills.network_policy import NetworkPolicy, Rule, parse_rule
from swarmharness.skills.request import SkillRequest

ANYTHING = "*"
"""Whatever the folder asks for, now and after it changes."""


@final
class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One folder's table in the node's configuration, by its name there, whatever it calls itself.

    None: the folder's own number.
    """

    network: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    publish: bool | None = None
    isolation: Literal["fork", "worker", "oneshot"] | None = None
    timeout_ms: int | None = None
    concurrency: int | None = None
    queue: int | None = None
    cpu_milli: int | None = None
    memory_mb: int | None = None
    disk_mb: int | None = None
    max_input: int | None = None
    max_output: int | None = None


@final
class Ceilings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that any skill of this node gets, whoever asks."""

    timeout_ms: int = 300_000  # ten times what a skill gets that asks for nothing
    concurrency: int = 64  # calls at once; more only share the same cores
    queue: int = 1024  # waiting calls; at ten a second, already two minutes of waiting
    cpu_milli: int = 8000  # eight cores, a whole desktop machine
    memory_mb: int = 4096  # a quarter of a common desktop machine
    disk_mb: int = 1024  # temporary files, which are memory as well
    max_input: int = 64 * 1024 * 1024  # what travels as one piece of bulk
    max_output: int = 64 * 1024 * 1024  # the same, on the way back


@final
class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What one skill runs under."""

    publish: bool
    isolation: Literal["fork", "worker", "oneshot"]
    timeout_ms: int
    concurrency: int
    queue: int
    cpu_milli: int
    memory_mb: int
    disk_mb: int
    max_input_bytes: int
    max_output_bytes: int
    network_allow: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()


def parse_grant(table: Mapping[str, Any]) -> Grant:
    """`BadGrant` for unknown keys, too: a mistyped permission must not pass in silence."""
    try:
        grant = msgspec.convert(dict(table), Grant)
        NetworkPolicy.parse(rule for rule in grant.network if rule != ANYTHING)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadGrant(f"A skill's grant cannot be read: {error}.") from None
    except BadNetworkRule as error:
        raise BadGrant(f"A skill's grant cannot be read: {error.sentence}") from None
    for key in Ceilings.__struct_fields__:
        value = getattr(grant, key)
        if value is not None and value < (0 if key == "queue" else 1):
            raise BadGrant(f"A skill's grant cannot be read: {key} is {value}.")
    return grant


def missing(request: SkillRequest, grant: Grant) -> tuple[str, ...]:
    """What stands between the skill and running, in words; empty if nothing does."""
    needs = [
        f"network {rule}" for rule in request.network.allow if not _reaches(grant.network, rule)
    ]
    needs += [f"variable {name}" for name in request.env if not _lists(grant.env, name)]
    needs += [
        f"package {requirement}"
        for requirement in request.requirements
        if not _lists(grant.requirements, requirement)
    ]
    unsupported = (
        (request.engine != "local", f"engine {request.engine}, which this version has not"),
        (request.resources.vram_mb > 0, "a GPU, which this version does not offer"),
        (request.state, "a state directory, which this version has not"),
        (bool(request.mounts), "mounts, which this version has not"),
        (request.runtime is not None, f"runtime {request.runtime}, which this version has not"),
    )
    return (*needs, *(need for asked, need in unsupported if asked))


def settle(
    request: SkillRequest, grant: Grant, ceilings: Ceilings, *, timeout_ms: int
) -> tuple[Terms, list[str]]:
    """The terms, and a warning for every number that was cut. Only for a request that is met."""
    assert not missing(request, grant), "a skill without its grants has no terms"
    resources = request.resources
    cut: list[str] = []

    def value(key: str, asked: int) -> int:
        chosen = getattr(grant, key)
        chosen = asked if chosen is None else chosen
        ceiling: int = getattr(ceilings, key)
        if chosen > ceiling:
            cut.append(f"{key} {chosen} is cut to this node's ceiling of {ceiling}")
        return min(chosen, ceiling)

    terms = Terms(
        publish=request.publish if grant.publish is None else grant.publish,
        isolation=grant.isolation or request.isolation,
        timeout_ms=value("timeout_ms", timeout_ms),
        concurrency=value("concurrency", request.concurrency),
        queue=value("queue", request.queue),
        cpu_milli=value("cpu_milli", resources.cpu_milli),
        memory_mb=value("memory_mb", resources.memory_mb),
        disk_mb=value("disk_mb", resources.disk_mb),
        max_input_bytes=value("max_input", request.max_input_bytes),
        max_output_bytes=value("max_output", request.max_output_bytes),
        network_allow=request.network.allow,
        env=request.env,
        requirements=request.requirements,
    )
    return terms, cut


def _lists(granted: tuple[str, ...], asked: str) -> bool:
    return ANYTHING in granted or asked in granted


def _reaches(granted: tuple[str, ...], asked: str) -> bool:
    """A granted `*.host` covers names below it and narrower stars, never the bare host."""
    if ANYTHING in granted:
        return True
    wanted = parse_rule(asked)
    return any(_covers(parse_rule(text), wanted) for text in granted)


def _covers(granted: Rule, wanted: Rule) -> bool:
    if granted.port != wanted.port:
        return False
    if granted == wanted:
        return True
    return granted.wildcard and wanted.host.endswith("." + granted.host)
