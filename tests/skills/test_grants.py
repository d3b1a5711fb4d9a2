from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.skills.errors import BadGrant
from swarmharness.skills.grants import ANYTHING, Ceilings, Grant, missing, parse_grant, settle
from swarmharness.skills.request import NetworkRequest, ResourceRequest, SkillRequest


def network(*rules: str) -> SkillRequest:
    return SkillRequest(network=NetworkRequest(rules))


def test_nothing_asked_needs_nothing():
    assert missing(SkillRequest(), Grant()) == ()


@pytest.mark.parametrize(
    ("granted", "asked", "is_met"),
    [
        ((), "a.org:443", False),
        (("a.org:443",), "a.org:443", True),
        (("A.ORG:443",), "a.org:443", True),
        (("a.org:80",), "a.org:443", False),
        (("*.a.org:443",), "b.a.org:443", True),
        (("*.a.org:443",), "*.b.a.org:443", True),
        (("*.a.org:443",), "*.a.org:443", True),
        (("*.a.org:443",), "a.org:443", False),
        (("*.a.org:443",), "nota.org:443", False),
        (("b.a.org:443",), "*.a.org:443", False),
        ((ANYTHING,), "a.org:443", True),
    ],
)
def test_a_grant_covers_what_it_names(granted, asked, is_met):
    assert (missing(network(asked), Grant(network=granted)) == ()) is is_met


def test_every_missing_permission_is_named():
    request = SkillRequest(
        network=NetworkRequest(("a.org:443",)),
        env=("KEY", "GIVEN"),
        requirements=("numpy",),
        engine="ray",
        resources=ResourceRequest(vram_mb=1),
        state=True,
        mounts=("x",),
        runtime="py312",
    )
    needs = "; ".join(missing(request, Grant(env=("GIVEN",))))
    for word in ("a.org:443", "KEY", "numpy", "ray", "GPU", "state", "mounts", "py312"):
        assert word in needs
    assert "GIVEN" not in needs


def test_numbers_are_the_operators_else_the_folders_cut_to_the_ceiling():
    request = SkillRequest(concurrency=100, queue=3, publish=False)
    terms, cut = settle(request, Grant(queue=0), Ceilings(concurrency=8), timeout_ms=999_000)
    assert (terms.concurrency, terms.queue, terms.timeout_ms) == (8, 0, 300_000)
    assert terms.publish is False
    assert [line.split()[0] for line in cut] == ["timeout_ms", "concurrency"]


def test_the_operator_may_publish_and_isolate_otherwise():
    terms, _ = settle(
        SkillRequest(publish=False),
        Grant(publish=True, isolation="oneshot"),
        Ceilings(),
        timeout_ms=1,
    )
    assert (terms.publish, terms.isolation) == (True, "oneshot")


@pytest.mark.parametrize(
    "table",
    [
        {"netwrok": []},
        {"network": ["nowhere"]},
        {"concurrency": 0},
        {"memory_mb": "1"},
        {"isolation": "none"},
    ],
)
def test_a_mistyped_grant_is_refused(table):
    with pytest.raises(BadGrant):
        parse_grant(table)


def test_grants_are_read():
    assert parse_grant({"network": ["*"], "env": ["A"], "queue": 0}) == Grant(
        network=("*",), env=("A",), queue=0
    )


@given(st.lists(st.sampled_from("ABCD"), unique=True), st.lists(st.sampled_from("ABCD")))
def test_terms_never_exceed_the_request(asked, granted):
    request, grant = SkillRequest(env=tuple(asked)), Grant(env=tuple(granted))
    needs = missing(request, grant)
    assert (needs == ()) is (set(asked) <= set(granted))
    if not needs:
        terms, _ = settle(request, grant, Ceilings(), timeout_ms=1)
        assert set(terms.env) <= set(asked) & set(granted)
