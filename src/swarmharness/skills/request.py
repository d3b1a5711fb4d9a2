"""A request is the `[swarm]` table of `skill.toml`: what the folder asks for, never what it gets.

Every key is optional and every unknown key is only a warning, so that a folder written for a
later version still loads. A known key with a value of the wrong kind is a reason not to serve:
guessing what an author meant by `concurrency = "many"` helps nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, final

import msgspec

from swarmharness.skills.errors import BadNetworkRule, BadSkillFile
from swarmharness.skills.network_policy import NetworkPolicy

MAX_CREDITS_UCR = 2**53  # micro-credits; exact in every JSON reader
MAX_NAMES = 64  # entries of a list; more are not read by the operator who grants them
MAX_NAME_LENGTH = 200  # characters of one requirement, variable or mount
BYTES_PER = {"": 1, "B": 1, "KIB": 1024, "MIB": 1024**2, "KB": 1000, "MB": 1000**2}

_SIZE = re.compile(r"([0-9]{1,12})\s*([A-Za-z]{0,3})")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")
_COMPARATORS = frozenset({"exact", "none", "numeric", "embedding", "judge"})
_QUALITIES = frozenset({"sla", "user", "model", "quorum"})
_PIPELINES = frozenset({"time_share", "interacting", "mandatory"})


@final
class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Micro-credits, whole ones."""

    call: int = 0
    cpu_second: int = 0
    gpu_second: int = 0
    max: int | None = None


@final
class ResourceRequest(msgspec.Struct, frozen=True):
    """What one sandbox of the skill may use."""

    cpu_milli: int = 1000
    memory_mb: int = 1024
    vram_mb: int = 0
    disk_mb: int = 64


@final
class NetworkRequest(msgspec.Struct, frozen=True):
    """`host:port` or `*.host:port`."""

    allow: tuple[str, ...] = ()


@final
class SkillRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole table. None means: the folder did not say."""

    version: str | None = None
    publish: bool = True
    price: Price = Price()
    concurrency: int = 1
    queue: int = 16
    resources: ResourceRequest = ResourceRequest()
    network: NetworkRequest = NetworkRequest()
    isolation: Literal["fork", "worker", "oneshot"] = "fork"
    engine: Literal["local", "ray"] = "local"
    deterministic: bool = False
    checkpoint: bool = False
    resumable: bool = False
    idempotent: bool = True
    private: bool = False
    comparator: str | dict[str, Any] | None = None
    quality: str | dict[str, Any] = "sla"
    pipeline: str = "time_share"
    env: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    state: bool = False
    mounts: tuple[str, ...] = ()
    runtime: str | None = None
    max_input: int | str = 4 * 1024 * 1024
    max_output: int | str = 16 * 1024 * 1024

    @property
    def max_input_bytes(self) -> int:
        return _size(self.max_input, "max_input")

    @property
    def max_output_bytes(self) -> int:
        return _size(self.max_output, "max_output")

    @property
    def effective_comparator(self) -> str | dict[str, Any]:
        """How two replicas' outputs are compared."""
        if self.comparator is not None:
            return self.comparator
        return "exact" if self.deterministic else "none"


def parse_request(table: Mapping[str, Any]) -> tuple[SkillRequest, list[str]]:
    """The request and warnings about keys that mean nothing here; `BadSkillFile` for bad values."""
    try:
        request = msgspec.convert(dict(table), SkillRequest)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadSkillFile(f"skill.toml [swarm]: {error}") from None
    _check(request)
    return request, _unknown_keys(table)


def _check(request: SkillRequest) -> None:
    price, resources = request.price, request.resources
    for name, value, low, high in (
        ("concurrency", request.concurrency, 1, 1024),
        ("queue", request.queue, 0, 4096),
        ("resources.cpu_milli", resources.cpu_milli, 10, 1_024_000),
        ("resources.memory_mb", resources.memory_mb, 16, 4_194_304),
        ("resources.vram_mb", resources.vram_mb, 0, 4_194_304),
        ("resources.disk_mb", resources.disk_mb, 0, 1_048_576),
        ("price.call", price.call, 0, MAX_CREDITS_UCR),
        ("price.cpu_second", price.cpu_second, 0, MAX_CREDITS_UCR),
        ("price.gpu_second", price.gpu_second, 0, MAX_CREDITS_UCR),
        ("price.max", price.max or 0, 0, MAX_CREDITS_UCR),
        ("max_input", request.max_input_bytes, 1, 1024**3),
        ("max_output", request.max_output_bytes, 1, 1024**3),
    ):
        if not low <= value <= high:
            raise BadSkillFile(f"skill.toml [swarm]: {name} is {value}, not in {low} to {high}")
    if request.version is not None and not _VERSION.fullmatch(request.version):
        raise BadSkillFile("skill.toml [swarm]: version is not letters, digits and . + _ -")
    for name, names in (
        ("env", request.env),
        ("requirements", request.requirements),
        ("mounts", request.mounts),
        ("network.allow", request.network.allow),
    ):
        if len(names) > MAX_NAMES or any(not 0 < len(n) <= MAX_NAME_LENGTH for n in names):
            raise BadSkillFile(f"skill.toml [swarm]: {name} has too many or too long entries")
    if not all(_VARIABLE.fullmatch(name) for name in request.env):
        raise BadSkillFile("skill.toml [swarm]: env lists names of variables, no values")
    _check_choice("comparator", request.effective_comparator, _COMPARATORS)
    _check_choice("quality", request.quality, _QUALITIES)
    _check_choice("pipeline", request.pipeline, _PIPELINES)
    try:
        NetworkPolicy.parse(request.network.allow)
    except BadNetworkRule as error:
        raise BadSkillFile(f"skill.toml [swarm]: network.allow: {error.sentence}") from None


def _check_choice(key: str, value: str | dict[str, Any], known: frozenset[str]) -> None:
    """`"exact"`, or a table of one entry: `{ numeric = { rtol = 1e-6 } }`."""
    word = value if isinstance(value, str) else next(iter(value), "") if len(value) == 1 else ""
    if word not in known:
        raise BadSkillFile(f"skill.toml [swarm]: {key} must be one of {', '.join(sorted(known))}")


def _size(value: int | str, key: str) -> int:
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(value.strip())
    factor = BYTES_PER.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise BadSkillFile(f"skill.toml [swarm]: {key} is a number of bytes or like “4 MiB”")
    return int(match[1]) * factor


def _unknown_keys(table: Mapping[str, Any]) -> list[str]:
    nested: dict[str, type[msgspec.Struct]] = {
        "resources": ResourceRequest,
        "network": NetworkRequest,
    }
    unknown = sorted(set(table) - set(SkillRequest.__struct_fields__))
    for key, kind in nested.items():
        inner = table.get(key)
        if isinstance(inner, Mapping):
            unknown += sorted(f"{key}.{k}" for k in set(inner) - set(kind.__struct_fields__))
    return [f"skill.toml [swarm]: unknown key {key!r} is ignored" for key in unknown]
