from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.skills.errors import BadSkillFile
from swarmharness.skills.manifest import MANIFEST_LIMIT, Manifest, parse_manifest
from swarmharness.skills.request import SkillRequest, parse_request


def test_no_file_is_no_request():
    assert parse_manifest(None) == Manifest()
    assert parse_manifest(b"") == Manifest()


def test_all_keys_are_read():
    manifest = parse_manifest(
        b"""
        [skill]
        name = "x"
        [swarm]
        version = "1.2"
        publish = false
        price = { call = 5, cpu_second = 7, max = 100 }
        concurrency = 4
        queue = 0
        resources = { cpu_milli = 500, memory_mb = 256, vram_mb = 0, disk_mb = 1 }
        network.allow = ["example.org:443", "*.example.org:443"]
        isolation = "worker"
        engine = "local"
        deterministic = true
        idempotent = false
        private = true
        comparator = { numeric = { rtol = 1e-6, atol = 0.0 } }
        quality = "user"
        pipeline = "mandatory"
        env = ["API_KEY"]
        requirements = ["numpy>=2"]
        max_input = "1 MiB"
        max_output = 2048
        [tool.other]
        anything = 1
        """
    )
    request = manifest.request
    assert manifest.warnings == ()
    assert manifest.skill == {"name": "x"}
    assert (request.price.call, request.price.max) == (5, 100)
    assert request.network.allow == ("example.org:443", "*.example.org:443")
    assert (request.isolation, request.private, request.idempotent) == ("worker", True, False)
    assert (request.max_input_bytes, request.max_output_bytes) == (1024**2, 2048)


def test_defaults():
    request = SkillRequest()
    assert request.effective_comparator == "none"
    assert SkillRequest(deterministic=True).effective_comparator == "exact"
    assert SkillRequest(comparator="none", deterministic=True).effective_comparator == "none"
    assert (request.max_input_bytes, request.max_output_bytes) == (4 * 2**20, 16 * 2**20)


def test_unknown_keys_are_warnings():
    request, warnings = parse_request({"later": 1, "resources": {"qubits": 3}, "queue": 2})
    assert request.queue == 2
    assert [w.split("'")[1] for w in warnings] == ["later", "resources.qubits"]


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"concurrency": "many"}, "concurrency"),
        ({"concurrency": 0}, "concurrency"),
        ({"queue": -1}, "queue"),
        ({"isolation": "none"}, "isolation"),
        ({"price": {"call": -1}}, "price.call"),
        ({"price": {"coffee": 1}}, "coffee"),
        ({"price": {"call": 0.5}}, "call"),
        ({"resources": {"memory_mb": 1}}, "memory_mb"),
        ({"network": {"allow": ["nowhere"]}}, "network.allow"),
        ({"env": ["A=1"]}, "env"),
        ({"env": ["A"] * 65}, "env"),
        ({"requirements": ["x" * 201]}, "requirements"),
        ({"max_input": "4 lightyears"}, "max_input"),
        ({"max_input": "1 GiB!"}, "max_input"),
        ({"max_output": 0}, "max_output"),
        ({"comparator": "taste"}, "comparator"),
        ({"comparator": {"numeric": {}, "judge": {}}}, "comparator"),
        ({"comparator": {}}, "comparator"),
        ({"pipeline": "sideways"}, "pipeline"),
        ({"version": "1 2"}, "version"),
    ],
)
def test_a_wrong_value_names_its_key(table, word):
    with pytest.raises(BadSkillFile, match=word):
        parse_request(table)


@pytest.mark.parametrize("content", [b"[skill", b"skill = 3", b"\xff", b"swarm = []"])
def test_a_file_that_is_no_manifest_is_refused(content):
    with pytest.raises(BadSkillFile, match=r"skill\.toml"):
        parse_manifest(content)


def test_the_file_has_a_size_limit():
    assert parse_manifest(b"#" * MANIFEST_LIMIT) == Manifest()
    with pytest.raises(BadSkillFile, match="65537 bytes"):
        parse_manifest(b"#" * (MANIFEST_LIMIT + 1))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_give_a_manifest_or_a_refusal(content):
    try:
        parse_manifest(content)
    except BadSkillFile:
        return


def test_deep_nesting_is_refused_not_a_crash():
    with pytest.raises(BadSkillFile):
        parse_manifest(b"swarm = " + b"[" * 20_000)
