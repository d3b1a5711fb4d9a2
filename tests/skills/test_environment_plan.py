"""What a skill may ask for, the key that follows from it, and where packages may come from."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmharness.skills.environment_plan import (
    REQUIREMENT_LENGTH,
    REQUIREMENT_LIMIT,
    EnvironmentPlan,
    Interpreter,
    LocalSource,
    PackageSources,
    choose_evictions,
    failure_words,
    installer_arguments,
    local_source,
    network_rules,
    package_sources,
    parse_requirement,
    plan_environment,
)
from swarmharness.skills.errors import RequirementRefused

HERE = Interpreter("cpython", "3.11", "cpython-311-x86_64-linux-gnu", "linux-x86_64", "glibc-2.36")
DEFAULT = {"default_index": "https://index.test/simple", "default_file_host": "files.test"}


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("pillow", "pillow"),
        ("  Pillow  >= 12 ", "pillow>=12"),
        ("pillow<13,>=12", "pillow<13,>=12"),
        ("pillow >=12 , <13", "pillow<13,>=12"),
        ("pillow (>=12)", "pillow>=12"),
        ("zope.interface", "zope-interface"),
        ("My__Pack-age==1.0.*", "my-pack-age==1.0.*"),
        ("httpx[http2, Brotli_x]~=0.28", "httpx[brotli-x,http2]~=0.28"),
        ("torch==2.1+cpu", "torch==2.1+cpu"),
        ("a!=1!2.0", "a!=1!2.0"),
        ("six; python_version < '3.12'", "six ; python_version < '3.12'"),
        ('six>=1;sys_platform=="linux"', 'six>=1 ; sys_platform=="linux"'),
    ],
)
def test_a_requirement_has_one_spelling(text: str, normal: str) -> None:
    assert parse_requirement(text) == normal
    assert parse_requirement(normal) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-r file.txt",
        "--index-url=https://evil.test/simple",
        "-e .",
        "./local",
        "/etc/passwd",
        "a/b",
        "pillow @ https://evil.test/p.whl",
        "git+https://evil.test/p",
        "https://evil.test/p.whl",
        "file:///etc/passwd",
        "pillow>=12 --hash=sha256:00",
        "pillow\\evil",
        "pillow>=",
        "pillow>=1<2",
        "pillow 12",
        "pillow,six",
        "pillow;",
        "pillow; `id`",
        "pillow; $HOME",
        "pil\u0131ow",
        "pillow==\uff11",
        "pillow\x00",
        "_pillow",
        "a" * (REQUIREMENT_LENGTH + 1),
    ],
)
def test_whatever_is_not_a_name_with_bounds_is_refused_by_name(text: str) -> None:
    with pytest.raises(RequirementRefused) as caught:
        parse_requirement(text)
    assert repr(text[:80]) in caught.value.sentence


@settings(derandomize=True)
@given(st.text(alphabet="aZ0._-[](), ;<>=!~*+'\"@/:\t\n", max_size=REQUIREMENT_LENGTH + 10))
def test_any_text_is_refused_or_stable(text: str) -> None:
    try:
        normal = parse_requirement(text)
    except RequirementRefused:
        return
    assert parse_requirement(normal) == normal
    assert not normal.startswith("-")
    assert "/" not in normal
    assert "@" not in normal


def test_the_key_ignores_order_and_spelling_and_nothing_else() -> None:
    key = plan_environment(["pillow>=12", "six"], HERE).key
    assert plan_environment(["Six ", "Pillow >= 12", "six"], HERE).key == key
    assert len(key) == 32
    others = [plan_environment([bound, "six"], HERE).key for bound in ("pillow", "pillow>=13")]
    for field, value in [
        ("implementation", "pypy"),
        ("version", "3.12"),
        ("abi", "x"),
        ("platform", "linux-aarch64"),
        ("libc", "musl-1.2"),
    ]:
        changed = {name: getattr(HERE, name) for name in HERE.__struct_fields__} | {field: value}
        others.append(plan_environment(["pillow>=12", "six"], Interpreter(**changed)).key)
    assert key not in others


def test_the_key_of_a_known_plan_never_changes() -> None:
    plan = plan_environment(["six>=1.16"], HERE)
    assert plan.key == "42e6461e46d02f829f9a02fb1fc344cd"


def test_the_number_of_requirements_is_bounded() -> None:
    plan_environment([f"p{n}" for n in range(REQUIREMENT_LIMIT)], HERE)
    with pytest.raises(RequirementRefused, match="at most"):
        plan_environment([f"p{n}" for n in range(REQUIREMENT_LIMIT + 1)], HERE)


def test_without_configuration_the_default_index_and_its_file_host_are_used() -> None:
    sources = package_sources({}, **DEFAULT)
    assert sources.indexes == ("https://index.test/simple",)
    assert network_rules(sources) == ("index.test:443", "files.test:443")


def test_a_variable_beats_a_section_and_a_section_beats_global() -> None:
    options = {"global.index-url": "https://one.test/s"}
    assert package_sources(options, **DEFAULT).indexes == ("https://one.test/s",)
    options["install.index-url"] = "https://two.test/s"
    assert package_sources(options, **DEFAULT).indexes == ("https://two.test/s",)
    options[":env:.index-url"] = "https://three.test/s"
    assert package_sources(options, **DEFAULT).indexes == ("https://three.test/s",)


def test_the_rules_name_the_hosts_of_the_operators_own_index_only() -> None:
    sources = package_sources(
        {
            "global.index-url": "https://user:secret@mirror.test:8443/simple",
            "global.extra-index-url": "http://second.test/simple\nfile:///srv/simple",
            "global.find-links": "/srv/wheels https://links.test/page.html http://[fd00::1]:81/",
            "global.cert": "/srv/ca.pem",
        },
        **DEFAULT,
    )
    assert network_rules(sources) == (
        "mirror.test:8443",
        "second.test:80",
        "links.test:443",
        "[fd00::1]:81",
    )
    assert sources.certificates == "/srv/ca.pem"
    assert "secret" not in " ".join(network_rules(sources))


def test_without_an_index_nothing_is_reached() -> None:
    sources = package_sources({"global.no-index": "true", "install.find-links": "/w"}, **DEFAULT)
    assert sources == PackageSources(links=("/w",))
    assert network_rules(sources) == ()


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://index.test/simple", None),
        ("/srv/wheels", LocalSource("/srv/wheels")),
        ("~/wheels", LocalSource("~/wheels")),
        ("file:///srv/my%20wheels", LocalSource("/srv/my wheels")),
        ("file:///srv/index/simple/", LocalSource("/srv/index", "simple")),
    ],
)
def test_a_local_source_is_what_to_show(location: str, expected: LocalSource | None) -> None:
    assert local_source(location) == expected


def test_the_installer_is_told_everything_and_requirements_come_last() -> None:
    plan = EnvironmentPlan(("six>=1.16",), HERE)
    sources = PackageSources(
        indexes=("https://index.test/simple", "file:///srv/simple"),
        links=("/srv/wheels",),
        certificates="/srv/ca.pem",
    )
    places = {
        "file:///srv/simple": "/p/0/simple",
        "/srv/wheels": "/p/1",
        "/srv/ca.pem": "/ca",
    }
    said = installer_arguments(plan, sources, target="/env", places=places, proxy="http://p:1")
    text = " ".join(said)
    assert said[-2:] == ["--", "six>=1.16"]
    for part in (
        "--only-binary :all:",
        "--isolated",
        "--no-input",
        "--target /env",
        "--index-url https://index.test/simple",
        "--extra-index-url /p/0/simple",
        "--find-links /p/1",
        "--cert /ca",
        "--proxy http://p:1",
    ):
        assert part in text
    assert "/srv" not in text
    alone = installer_arguments(plan, PackageSources(), target="/e", places={}, proxy="")
    assert "--no-index" in alone
    assert "--proxy" not in alone


def test_the_reason_is_the_last_error_line() -> None:
    assert failure_words("a\nERROR: first\nERROR: last\nnotice", 50) == "last"
    assert failure_words("Traceback\nValueError: no\n\n", 50) == "ValueError: no"
    assert failure_words("", 50) == "it said nothing"
    assert failure_words("ERROR: " + "x" * 99, 10) == "x" * 9 + "…"


def test_the_least_recently_used_environments_go_first() -> None:
    used = [(3, "c", 10), (1, "a", 10), (2, "b", 10)]
    assert choose_evictions(used, count_limit=3, bytes_limit=30) == []
    assert choose_evictions(used, count_limit=2, bytes_limit=30) == ["a"]
    assert choose_evictions(used, count_limit=3, bytes_limit=15) == ["a", "b"]
    assert choose_evictions(used, count_limit=0, bytes_limit=0) == ["a", "b", "c"]
