"""The configuration is what the operator wants of this node: flags over environment over file.

`config.toml` in the home holds the same settings as the flags of `swarm up`, and the grants that
skills ask for. An unknown key is an error that names the nearest known one: a setting that is
silently ignored is worse than a start that fails.

    listen = "0.0.0.0:4711"
    peers = ["tls://ID@host:4711"]
    skills = ["~/skills"]
    [sandbox]
    allow_tier2 = false
    [grants.web_search]
    network = ["api.example.org:443"]
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, final

import msgspec

from swarmharness.kernel.errors import SwarmError
from swarmharness.network.address import NodeAddress, parse_host_port, parse_node_address
from swarmharness.node.errors import ConfigInvalid

CONFIG_LIMIT = 1024 * 1024  # bytes; a file larger than this is not a configuration
DEFAULT_LISTEN = ("127.0.0.1", 0)


@final
class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner accepts as protection."""

    allow_tier2: bool = False
    """Run CPU-only, network-free skills where there are no user namespaces."""


@final
class ConfigFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file, as written."""

    listen: str | None = None
    peers: list[str] = []
    skills: list[str] = []
    sandbox: SandboxSettings = SandboxSettings()
    grants: dict[str, dict[str, Any]] = {}


@final
class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a node needs to start."""

    listen: tuple[str, int] = DEFAULT_LISTEN
    peers: tuple[NodeAddress, ...] = ()
    skill_directories: tuple[Path, ...] = ()
    sandbox: SandboxSettings = SandboxSettings()
    grants: dict[str, dict[str, Any]] = {}


def read_config(path: Path) -> ConfigFile:
    """The file's content; defaults when there is no file."""
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return ConfigFile()  # a home that is no directory is refused as a home
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}.") from error
    if len(raw) > CONFIG_LIMIT:
        raise ConfigInvalid(f"{path} is larger than {CONFIG_LIMIT} bytes.")
    try:
        table = tomllib.loads(raw.decode())
        _refuse_unknown_keys(table, ConfigFile, path, "")
        return msgspec.convert(table, ConfigFile)
    except (
        tomllib.TOMLDecodeError,
        UnicodeDecodeError,
        RecursionError,
        msgspec.ValidationError,
    ) as error:
        raise ConfigInvalid(f"{path}: {error}") from None


def merge(
    file: ConfigFile,
    *,
    listen: str | None = None,
    peers: tuple[str, ...] = (),
    skills: tuple[Path, ...] = (),
    allow_tier2: bool | None = None,
) -> NodeConfig:
    """Flags win over the file; peers and skill directories add up."""
    place = listen or file.listen
    sandbox = file.sandbox
    if allow_tier2 is not None:
        sandbox = SandboxSettings(allow_tier2=allow_tier2)
    directories = [*(Path(text).expanduser() for text in file.skills), *skills]
    return NodeConfig(
        listen=parse_host_port(place) if place else DEFAULT_LISTEN,
        peers=tuple(_parse_peer(text) for text in (*file.peers, *peers)),
        skill_directories=tuple(dict.fromkeys(path.absolute() for path in directories)),
        sandbox=sandbox,
        grants=file.grants,
    )


def _parse_peer(text: str) -> NodeAddress:
    try:
        return parse_node_address(text)
    except SwarmError as error:
        raise ConfigInvalid(f"Peer “{text}”: {error.sentence}", hint=error.hint) from None


def _refuse_unknown_keys(
    table: dict[str, Any], kind: type[msgspec.Struct], path: Path, prefix: str
) -> None:
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"Did you mean “{prefix}{near[0]}”?" if near else None
            raise ConfigInvalid(f"{path} has the unknown setting “{prefix}{key}”.", hint=hint)
        field_type = known[key].type
        is_table = isinstance(field_type, type) and issubclass(field_type, msgspec.Struct)
        if is_table and isinstance(value, dict):
            _refuse_unknown_keys(value, field_type, path, f"{prefix}{key}.")
