"""A skill environment is the set of packages that one skill asked for, kept apart from all others.

Theory of operation. A skill names packages in `requirements`; once the operator grants them they
become a plan. The plan's key is a hash of the requirements and of what decides whether a wheel
fits (interpreter, ABI, platform), so two skills that ask for the same share one directory, and a
new interpreter never meets packages that were built for the old one.

A requirement is a name with optional extras, version bounds and an environment marker. Addresses,
paths and options are refused: they would fetch from a place that the operator did not choose.
Where packages come from is the operator's own installer configuration and nothing else; from it
follows which hosts the installing sandbox may reach and which local directories it sees.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import final
from urllib.parse import unquote, urlsplit

import msgspec

from swarmharness.kernel import codec
from swarmharness.skills.errors import RequirementRefused

REQUIREMENT_LIMIT = 64  # packages that a skill names itself; what those need is not counted
REQUIREMENT_LENGTH = 200  # characters of one; a name, extras and bounds take under 100
_KEY_LENGTH = 32  # hex digits: 128 bits, far beyond accidental collision
_DEFAULT_PORTS = {"http": 80, "https": 443}

_BOUND = r"(?: (?:===|==|~=|!=|<=|>=|<|>) \s? [a-z0-9.*+!_-]+ )"
_REQUIREMENT = re.compile(
    r"""
    (?P<name> [a-z0-9] (?: [a-z0-9._-]* [a-z0-9] )? ) \s?
    (?P<extras> \[ [a-z0-9._,\s-]* \] )? \s?
    (?P<bounds> \(? \s? BOUND (?: \s? , \s? BOUND )* \s? ,? \s? \)? )? \s?
    (?P<marker> ; [a-z0-9_.\s'"<>=!~()+*-]+ )?
    """.replace("BOUND", _BOUND),
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


@final
class Interpreter(msgspec.Struct, frozen=True, array_like=True):
    """What decides which wheels fit."""

    implementation: str
    version: str
    abi: str
    platform: str
    libc: str


@final
class EnvironmentPlan(msgspec.Struct, frozen=True, array_like=True):
    """What to install, in an order that does not depend on how the skill wrote it."""

    requirements: tuple[str, ...]
    interpreter: Interpreter

    @property
    def key(self) -> str:
        """The directory's name: the same plan is built once."""
        body = b"swarm/environment/1\0" + codec.encode(self)
        return hashlib.sha256(body).hexdigest()[:_KEY_LENGTH]


def plan_environment(requirements: Iterable[str], interpreter: Interpreter) -> EnvironmentPlan:
    """`RequirementRefused` names the first entry that is not a plain requirement."""
    normal = sorted({parse_requirement(text) for text in requirements})
    if len(normal) > REQUIREMENT_LIMIT:
        raise RequirementRefused(
            f"{len(normal)} requirements; a skill has at most {REQUIREMENT_LIMIT}."
        )
    return EnvironmentPlan(tuple(normal), interpreter)


def parse_requirement(text: str) -> str:
    """The requirement in its one spelling; name and extras fold as package indexes fold them."""
    spaced = " ".join(text[: REQUIREMENT_LENGTH + 1].split())
    match = _REQUIREMENT.fullmatch(spaced) if len(text) <= REQUIREMENT_LENGTH else None
    if match is None:
        raise RequirementRefused(f"{text[:80]!r} is not a package name with version bounds.")
    name = fold_name(match["name"])
    extras = sorted(
        {fold_name(extra) for extra in (match["extras"] or "[]")[1:-1].split(",")} - {""}
    )
    bounds = sorted({*(match["bounds"] or "").strip("() ").replace(" ", "").split(",")} - {""})
    marker = (match["marker"] or "").removeprefix(";").strip()
    return (
        name
        + (f"[{','.join(extras)}]" if extras else "")
        + ",".join(bounds)
        + (f" ; {marker}" if marker else "")
    )


@final
class PackageSources(msgspec.Struct, frozen=True, kw_only=True):
    """Where the operator's installer gets packages from."""

    indexes: tuple[str, ...] = ()
    """The first is the main index; empty: there is none, only `links`."""
    links: tuple[str, ...] = ()
    certificates: str = ""
    file_hosts: tuple[str, ...] = ()
    """Where an index sends downloads, if not to itself."""


@final
class LocalSource(msgspec.Struct, frozen=True):
    """A source that is a directory of this machine: what to show, and the source inside it."""

    shown: str
    below: str = ""


def package_sources(
    options: Mapping[str, str], *, default_index: str, default_file_host: str
) -> PackageSources:
    """From the installer's own option names; a variable beats a section, a section `global`."""

    def option(name: str) -> str:
        for section in (":env:", "install", "global"):
            if value := options.get(f"{section}.{name}", ""):
                return value
        return ""

    indexes: tuple[str, ...] = ()
    if option("no-index").lower() not in {"1", "true", "yes", "on"}:
        main = option("index-url") or default_index
        indexes = (main, *option("extra-index-url").split())
    default_host = urlsplit(default_index).hostname
    uses_default = any(urlsplit(index).hostname == default_host for index in indexes)
    return PackageSources(
        indexes=indexes,
        links=tuple(option("find-links").split()),
        certificates=option("cert"),
        file_hosts=(default_file_host,) if uses_default else (),
    )


def network_rules(sources: PackageSources) -> tuple[str, ...]:
    """What the installing sandbox may reach: the indexes and their file hosts."""
    rules: dict[str, None] = {}
    for location in (*sources.indexes, *sources.links):
        parts = urlsplit(location)
        port = _DEFAULT_PORTS.get(parts.scheme)
        if port is not None and parts.hostname:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            rules[f"{host}:{parts.port or port}"] = None
    rules.update(dict.fromkeys(f"{host}:443" for host in sources.file_hosts))
    return tuple(rules)


def local_source(location: str) -> LocalSource | None:
    """None for what is reached over the network.

    A directory called `simple` is an index by convention, and its pages point to files beside it:
    its parent is shown.
    """
    if location.startswith("file:"):
        path = PurePosixPath(unquote(urlsplit(location).path))
    elif "://" in location:
        return None
    else:
        path = PurePosixPath(location)
    if path.name == "simple":
        return LocalSource(str(path.parent), path.name)
    return LocalSource(str(path))


def installer_arguments(
    plan: EnvironmentPlan,
    sources: PackageSources,
    *,
    target: str,
    places: Mapping[str, str],
    proxy: str,
) -> list[str]:
    """`places` says where the sandbox sees each local source, and the certificates."""
    arguments = ["install", "--isolated", "--no-input", "--disable-pip-version-check"]
    arguments += ["--no-cache-dir", "--no-color", "--progress-bar", "off", "--retries", "2"]
    arguments += ["--only-binary", ":all:", "--target", target]
    arguments += ["--proxy", proxy] if proxy else []
    if sources.certificates:
        arguments += ["--cert", places[sources.certificates]]
    if not sources.indexes:
        arguments.append("--no-index")
    for number, index in enumerate(sources.indexes):
        arguments += ["--extra-index-url" if number else "--index-url", places.get(index, index)]
    for link in sources.links:
        arguments += ["--find-links", places.get(link, link)]
    return [*arguments, "--", *plan.requirements]


def failure_words(output: str, limit: int) -> str:
    """The reason as the installer put it: its last error line, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    said = (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR:").strip()
    return said if len(said) <= limit else said[: limit - 1] + "…"


def choose_evictions(
    used: Sequence[tuple[int, str, int]], *, count_limit: int, bytes_limit: int
) -> list[str]:
    """Names to remove, least recently used first; each entry is (last use, name, bytes)."""
    left = sorted(used)
    total = sum(size for _, _, size in left)
    victims = []
    while left and (len(left) > count_limit or total > bytes_limit):
        _, name, size = left.pop(0)
        total -= size
        victims.append(name)
    return victims


def fold_name(name: str) -> str:
    """How package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
