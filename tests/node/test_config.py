"""Configuration: what the file may say, what wins, and how each mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmharness.kernel.errors import SwarmError
from swarmharness.kernel.ids import NodeId
from swarmharness.network.address import Address, NodeAddress, TransportKind
from swarmharness.node.config import (
    CONFIG_LIMIT,
    DEFAULT_LISTEN,
    ConfigFile,
    NodeConfig,
    merge,
    read_config,
)
from swarmharness.node.errors import ConfigInvalid
from swarmharness.node.identity import load_or_create

WHOLE = """
listen = "0.0.0.0:4711"
peers = ["%s"]
skills = ["~/skills", "/opt/skills"]
[sandbox]
allow_tier2 = true
[grants.web_search]
network = ["api.example.org:443"]
"""


@pytest.fixture
def address(tmp_path: Path) -> str:
    node_id: NodeId = load_or_create(tmp_path / "other").node_id
    return str(NodeAddress(node_id, Address(TransportKind.TLS, "example.org", 4711)))


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_no_file_is_a_file_of_defaults(tmp_path: Path):
    file = read_config(tmp_path / "config.toml")
    assert file == ConfigFile()
    assert merge(file) == NodeConfig()
    assert merge(file).listen == DEFAULT_LISTEN


def test_each_setting_is_read(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    config = merge(read_config(written(tmp_path, WHOLE % address)))
    assert config.listen == ("0.0.0.0", 4711)
    assert [str(peer) for peer in config.peers] == [address]
    assert config.skill_directories == (Path("/home/somebody/skills"), Path("/opt/skills"))
    assert config.sandbox.allow_tier2
    assert config.grants == {"web_search": {"network": ["api.example.org:443"]}}


def test_flags_win_and_lists_add_up(tmp_path: Path, address: str):
    file = read_config(written(tmp_path, WHOLE % address))
    other = address.replace("example.org", "example.net")
    config = merge(
        file,
        listen="127.0.0.1:1",
        peers=(other,),
        skills=(Path("/opt/skills"), Path("/more")),
        allow_tier2=False,
    )
    assert config.listen == ("127.0.0.1", 1)
    assert [str(peer) for peer in config.peers] == [address, other]
    assert config.skill_directories[1:] == (Path("/opt/skills"), Path("/more"))
    assert not config.sandbox.allow_tier2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\nlisten = [\n=", "line 3"),
        (b"listen = '\xff'", "utf-8"),
        ("listen = 4711", "listen"),
        ('peers = "one"', "peers"),
        ("[sandbox]\nallow_tier2 = 1", "allow_tier2"),
        ("sandbox = 3", "sandbox"),
        ("[grants]\nx = 3", "grants"),
        ("a = " + "[" * 100_000, "config.toml"),
    ],
)
def test_a_mistake_names_its_place(tmp_path: Path, text: str | bytes, told: str):
    with pytest.raises(ConfigInvalid) as caught:
        read_config(written(tmp_path, text))
    assert told in caught.value.sentence


@pytest.mark.parametrize(
    ("text", "name", "nearest"),
    [
        ('lisen = "x"', "lisen", "listen"),
        ("[sandbox]\nallow_tier_2 = true", "sandbox.allow_tier_2", "sandbox.allow_tier2"),
        ("[zzz]\n", "zzz", None),
    ],
)
def test_an_unknown_key_names_the_nearest(
    tmp_path: Path, text: str, name: str, nearest: str | None
):
    with pytest.raises(ConfigInvalid) as caught:
        read_config(written(tmp_path, text))
    assert f"“{name}”" in caught.value.sentence
    assert (f"“{nearest}”" in caught.value.hint) == (nearest is not None)


def test_a_file_that_is_none_is_refused(tmp_path: Path):
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigInvalid):
        read_config(tmp_path / "config.toml")


def test_a_huge_file_is_not_parsed(tmp_path: Path):
    text = "#" * CONFIG_LIMIT
    assert read_config(written(tmp_path, text)) == ConfigFile()
    with pytest.raises(ConfigInvalid, match="larger"):
        read_config(written(tmp_path, text + "#"))


@pytest.mark.parametrize("listen", ["nonsense", "host:port", ":1", "127.0.0.1:65536", "1.2.3.4"])
def test_a_wrong_place_to_listen_is_refused(listen: str):
    with pytest.raises(SwarmError):
        merge(ConfigFile(), listen=listen)


def test_a_wrong_peer_is_named():
    with pytest.raises(ConfigInvalid, match=r"127\.0\.0\.1:4711"):
        merge(ConfigFile(), peers=("127.0.0.1:4711",))
