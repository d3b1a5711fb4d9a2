from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from swarmharness.skills.call import CallerClass
from swarmharness.skills.catalogue import SkillState
from swarmharness.skills.description import FRAME_LIMIT
from swarmharness.skills.errors import (
    Overloaded,
    SandboxUnavailable,
    SkillBlocked,
    SkillBroken,
    UnknownSkill,
)
from swarmharness.skills.grants import Ceilings, Grant
from swarmharness.skills.io.description_cache import DescriptionCache
from swarmharness.skills.io.installed_environment import InstalledEnvironment, installed_environment
from swarmharness.skills.io.library import PARALLEL_PREPARATIONS, RETIRE_GRACE_US, SkillLibrary
from swarmharness.skills.io.preparation import Prepared, Preparer
from swarmharness.skills.io.snapshot import SnapshotStore
from swarmharness.skills.reload import FIRST_RETRY_US, LOOK_INTERVAL_US, QUIET_US
from swarmharness.skills.sandbox.boot_plan import BootMode, confinement_of
from swarmharness.skills.sandbox.runnable import Isolation, RunnableSkill

CORPUS = Path(__file__).parent / "corpus"


class ManualClock:
    """Moves when told to."""

    def __init__(self) -> None:
        self.us = 1_000_000

    def now_us(self) -> int:
        return self.us

    def wall_ms(self) -> int:
        return self.us // 1000


class FakeDescriber:
    """Describes by the text of handler.py: `# raise`, `# name: x`, or anything else."""

    def __init__(self) -> None:
        self.asked: list[RunnableSkill] = []
        self.error: Exception | None = None
        self.most_at_once = self.at_once = 0
        self.gate: asyncio.Barrier | None = None

    async def describe(self, runnable: RunnableSkill) -> bytes:
        self.asked.append(runnable)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.gate is not None:
            await self.gate.wait()
        self.at_once -= 1
        if self.error is not None:
            raise self.error
        source = (runnable.folder / "handler.py").read_text()
        if "# raise" in source:
            raise SkillBroken("handler.py:1: ValueError: no")
        front = {"name": source.split("# name: ")[1].strip()} if "# name: " in source else {}
        if "# slow" in source:
            front["timeout_secs"] = "1000"
        return json.dumps(
            {
                "version": 1,
                "kind": "plain",
                "is_sync": False,
                "front_matter": front,
                "docstring": "Says hello.",
                "instructions": None,
                "input_schema": {"type": "object"},
                "output_schema": {"type": "object"},
                "examples": [],
                "defaults": None,
                "warnings": ["from the sandbox"],
            }
        ).encode()


class Lease:
    path = Path("/nowhere/site")
    distributions = ("numpy==2.0",)

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class FakeEnvironments:
    def __init__(self) -> None:
        self.leases: list[Lease] = []

    async def acquire(self, requirements: tuple[str, ...]) -> Lease:
        self.leases.append(Lease())
        return self.leases[-1]


class World:
    """One library over one skills directory, with everything around it replaced."""

    def __init__(self, tmp_path: Path, describer=None, directories=None, **options) -> None:
        self.skills = tmp_path / "skills"
        self.skills.mkdir(exist_ok=True)
        self.clock = ManualClock()
        self.describer = describer or FakeDescriber()
        self.environments = FakeEnvironments()
        self.log: list[tuple[str, str]] = []
        self.running: dict[str, Prepared] = {}
        self.refusal: Exception | None = None
        self.snapshots = tmp_path / "snapshots"
        store = SnapshotStore(self.snapshots)
        store.open()
        self.library = SkillLibrary(
            directories or [self.skills],
            snapshots=store,
            preparer=Preparer(
                snapshots=store,
                describer=self.describer,
                base=InstalledEnvironment("CPython 3", ("a==1",)),
                **({"environments": self.environments} | options),
            ),
            publish=self.publish,
            withdraw=self.withdraw,
            clock=self.clock,
        )

    async def publish(self, prepared: Prepared) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.log.append(("publish", prepared.name))
        self.running[prepared.name] = prepared

    async def withdraw(self, name: str) -> None:
        self.log.append(("withdraw", name))
        del self.running[name]

    def write(self, name: str, handler: str = "", **files: str) -> Path:
        folder = self.skills / name
        folder.mkdir(exist_ok=True)
        (folder / "models.py").write_text("")
        (folder / "handler.py").write_text(handler)
        for key, text in files.items():
            (folder / key.replace("_", ".")).write_text(text)
        return folder

    async def look(self, *, after_us: int = 0) -> int:
        self.clock.us += after_us
        return await self.library.look()

    async def settle(self) -> None:
        """A change is seen, then quiet for long enough."""
        await self.look(after_us=LOOK_INTERVAL_US)
        await self.look(after_us=QUIET_US)

    def states(self) -> dict[str, str]:
        return {Path(e.folder).name: e.state.value for e in self.library.entries()}

    def reason(self, folder: str) -> str:
        return next(e.reason for e in self.library.entries() if Path(e.folder).name == folder)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def test_a_skill_is_prepared_and_published(world):
    world.write("greet", skill_toml='[skill]\ntags = ["x"]\n[swarm]\nconcurrency = 3\nfuture = 1\n')
    (world.skills / "shared").mkdir()
    (world.skills / "shared" / "words.py").write_text("w")
    assert await world.look() == LOOK_INTERVAL_US
    assert world.log == [("publish", "greet")]
    skill = world.library.find("greet")
    assert world.library.skills() == {"greet": skill}
    assert (skill.metadata.description, skill.metadata.tags) == ("Says hello.", ("x",))
    assert skill.version == f"0+{skill.digests.content.hex()[:8]}"
    assert skill.warnings == (
        "skill.toml [swarm]: unknown key 'future' is ignored",
        "from the sandbox",
    )
    runnable = world.running["greet"].runnable
    assert runnable.mount == skill.mount == "/app/skills/greet"
    assert runnable.folder == world.snapshots / skill.digests.content.hex()
    assert [path.name for path in runnable.support] == ["shared"]
    assert runnable.support[0].parent == world.snapshots / skill.digests.support.hex()
    assert (runnable.concurrency, runnable.digest) == (3, skill.generation)
    assert (runnable.isolation, runnable.timeout_ms) == (Isolation.FORK, 30_000)
    assert world.states() == {"greet": "serving"}


async def test_one_bad_skill_never_stops_the_others(world):
    world.write("a_bad", "# raise")
    world.write("b_toml", skill_toml="[skill")
    world.write("c_name", skill_toml='[skill]\nname = ""\n')
    (world.write("d_link") / "handler.py").unlink()
    (world.skills / "d_link" / "handler.py").symlink_to("/etc/hostname")
    (world.write("e_toml_link") / "skill.toml").symlink_to("/etc/hostname")
    (world.skills / "f_text").mkdir()
    (world.skills / "f_text" / "SKILL.md").write_text("text")
    world.write("good")
    await world.look()
    assert world.states() == {
        "a_bad": "broken",
        "b_toml": "broken",
        "c_name": "broken",
        "d_link": "broken",
        "e_toml_link": "broken",
        "f_text": "skipped",
        "good": "serving",
    }
    assert world.reason("a_bad") == "handler.py:1: ValueError: no"
    assert "leads out of the folder" in world.reason("d_link")
    assert "skill.toml cannot be read" in world.reason("e_toml_link")
    with pytest.raises(SkillBroken, match="ValueError"):
        world.library.find("a_bad")
    with pytest.raises(UnknownSkill):
        world.library.find("nobody")


async def test_a_folders_own_words_are_harmless_for_a_terminal(world, caplog):
    world.write("e\x1b[31mvil\nname", skill_toml='[swarm]\nconcurrency = "\x1b[2J"\n')
    await world.look()
    [entry] = world.library.entries()
    assert (entry.name, entry.state.value) == ("e\\x1b[31mvil\\x0aname", "broken")
    assert "\x1b" not in entry.reason + caplog.text


async def test_a_crowd_beside_a_skill_fits_its_sandbox(world):
    world.write("greet")
    for number in range(100):
        (world.skills / f"module{number}.py").write_text("")
    await world.look()
    [runnable] = world.describer.asked
    confinement_of(runnable, BootMode.DESCRIBE, CallerClass.OWNER)
    assert (
        world.library.find("greet")
        .warnings[-1]
        .endswith("is left out: it comes after the first 64")
    )


async def test_an_empty_neighbour_is_not_asked_of_the_sandbox(world):
    world.write("greet")
    (world.skills / "empty").mkdir()
    (world.skills / "compiled" / "__pycache__").mkdir(parents=True)
    (world.skills / "compiled" / "__pycache__" / "x.pyc").write_bytes(b"left by a checkout")
    (world.skills / "shared").mkdir()
    (world.skills / "shared" / "words.py").write_text("")
    await world.look()
    [runnable] = world.describer.asked
    assert [path.name for path in runnable.support] == ["shared"]


async def test_a_link_inside_the_folder_is_followed(world):
    folder = world.write("greet")
    (folder / "handler.py").rename(folder / "main.py")
    (folder / "handler.py").symlink_to("main.py")
    await world.look()
    assert world.states() == {"greet": "serving"}


async def test_a_skill_without_its_grant_is_blocked_and_never_runs(world):
    world.write("fetch", skill_toml='[swarm]\nnetwork.allow = ["example.org:443"]\nenv = ["KEY"]')
    await world.look()
    assert world.states() == {"fetch": "blocked"}
    assert world.reason("fetch") == "needs network example.org:443; variable KEY"
    assert world.describer.asked == []
    with pytest.raises(SkillBlocked, match="needs network"):
        world.library.find("fetch")


async def test_grants_reach_the_sandbox_and_nothing_else_does(tmp_path):
    world = World(
        tmp_path,
        grants={"fetch": Grant(network=("example.org:443",), env=("KEY", "OTHER"))},
        variables={"KEY": "secret", "OTHER": "x", "PATH": "/bin"},
        ceilings=Ceilings(timeout_ms=5_000),
    )
    world.write(
        "fetch",
        "# slow",
        skill_toml='[skill]\nname = "fetch it"\n'
        '[swarm]\nnetwork.allow = ["example.org:443"]\nenv = ["KEY"]\n',
    )
    await world.look()
    for runnable in (world.running["fetch it"].runnable, world.describer.asked[0]):
        assert runnable.env == (("KEY", "secret"),)
        assert runnable.network_allow == ("example.org:443",)
        assert runnable.timeout_ms == 5_000
    assert "timeout_ms 1000000 is cut to this node's ceiling of 5000" in (
        world.library.find("fetch it").warnings
    )


async def test_a_grant_is_not_had_by_taking_its_name(tmp_path):
    world = World(tmp_path, grants={"search": Grant(env=("KEY",))}, variables={"KEY": "secret"})
    world.write("aaa", skill_toml='[skill]\nname = "search"\n[swarm]\nenv = ["KEY"]\n')
    world.write("search", skill_toml='[swarm]\nenv = ["KEY"]\n')
    await world.look()
    assert world.states() == {"aaa": "blocked", "search": "serving"}
    assert world.running["search"].skill.folder.endswith("skills/search")
    assert [asked.folder for asked in world.describer.asked] == [
        world.running["search"].runnable.folder
    ]


async def test_of_two_folders_of_one_name_the_first_has_the_grant(tmp_path):
    first = tmp_path / "first"
    world = World(
        tmp_path, directories=[first, tmp_path / "skills"], grants={"search": Grant(env=("KEY",))}
    )
    later = world.write("search", skill_toml='[skill]\nname = "later"\n[swarm]\nenv = ["KEY"]\n')
    shutil.copytree(later, first / "search")
    (first / "search" / "skill.toml").unlink()
    await world.look()
    assert [entry.state.value for entry in world.library.entries()] == ["serving", "blocked"]
    assert world.reason("search") == ""
    assert world.library.entries()[1].reason == (
        f"has no grant: the grant of its name is for {first / 'search'}"
    )
    shutil.rmtree(first / "search")
    await world.settle()
    assert set(world.running) == {"later"}


async def test_folders_of_one_name_without_a_grant_are_both_served(tmp_path):
    first = tmp_path / "first"
    world = World(tmp_path, directories=[first, tmp_path / "skills"])
    shutil.copytree(world.write("search", "# name: one"), first / "search")
    (world.skills / "search" / "handler.py").write_text("# name: two")
    await world.look()
    assert set(world.running) == {"one", "two"}


async def test_a_granted_variable_without_value_is_a_warning(tmp_path):
    world = World(tmp_path, grants={"fetch": Grant(env=("*",))})
    world.write("fetch", skill_toml='[swarm]\nenv = ["KEY"]\n')
    await world.look()
    assert any("KEY" in line for line in world.library.find("fetch").warnings)


async def test_requirements_lease_an_environment_until_nothing_can_run_in_it(tmp_path):
    world = World(tmp_path, grants={"maths": Grant(requirements=("numpy",))})
    folder = world.write("maths", skill_toml='[swarm]\nrequirements = ["numpy"]\n')
    await world.look()
    [lease] = world.environments.leases
    before = world.library.find("maths").digests.environment
    assert world.running["maths"].runnable.environment_path == lease.path
    (folder / "skill.toml").unlink()
    await world.settle()
    assert world.library.find("maths").digests.environment != before
    assert not lease.is_closed
    await world.look(after_us=30_000_000 + RETIRE_GRACE_US)
    assert lease.is_closed


async def test_a_failed_describe_gives_its_environment_back(tmp_path):
    world = World(tmp_path, grants={"maths": Grant(requirements=("*",))})
    world.write("maths", "# raise", skill_toml='[swarm]\nrequirements = ["numpy"]\n')
    await world.look()
    assert world.environments.leases[0].is_closed


async def test_closing_gives_everything_back(tmp_path):
    world = World(tmp_path, grants={"maths": Grant(requirements=("*",))})
    world.write("maths", skill_toml='[swarm]\nrequirements = ["numpy"]\n')
    await world.look()
    await world.library.close()
    assert world.environments.leases[0].is_closed


async def test_a_saved_file_is_reloaded_after_a_quiet_moment(world):
    world.write("greet", "one")
    await world.look()
    first = world.running["greet"]
    world.write("greet", "two")
    assert await world.look(after_us=LOOK_INTERVAL_US) == QUIET_US
    assert world.running["greet"] is first
    await world.look(after_us=QUIET_US)
    second = world.running["greet"]
    assert second.generation != first.generation
    assert (first.runnable.folder / "handler.py").read_text() == "one"
    assert (second.runnable.folder / "handler.py").read_text() == "two"
    assert world.log == [("publish", "greet")] * 2


async def test_touching_a_file_reloads_nothing_outside(world):
    world.write("greet", "one")
    await world.look()
    world.write("greet", "one")
    await world.settle()
    assert world.log == [("publish", "greet")]


async def test_a_failed_reload_keeps_the_old_one_serving(world):
    world.write("greet", "one")
    await world.look()
    world.write("greet", "# raise")
    await world.settle()
    assert world.states() == {"greet": "reload_failed"}
    assert world.library.find("greet") is world.running["greet"].skill
    world.write("greet", "three")
    await world.settle()
    assert world.states() == {"greet": "serving"}
    assert (world.running["greet"].runnable.folder / "handler.py").read_text() == "three"


async def test_a_shared_module_reloads_the_skills_beside_it(world):
    (world.skills / "shared.py").write_text("one")
    world.write("greet")
    await world.look()
    before = world.running["greet"].generation
    (world.skills / "shared.py").write_text("two!")
    await world.settle()
    assert world.running["greet"].generation != before
    assert (world.running["greet"].runnable.support[0]).read_text() == "two!"


async def test_a_removed_folder_is_withdrawn_and_its_snapshot_outlives_its_calls(world):
    folder = world.write("greet")
    await world.look()
    snapshot = world.running["greet"].runnable.folder
    shutil.rmtree(folder)
    await world.look(after_us=LOOK_INTERVAL_US)
    assert world.log[-1] == ("withdraw", "greet")
    assert world.states() == {}
    for number in range(20):
        world.write("other", str(number))
        await world.settle()
    assert snapshot.exists()
    await world.look(after_us=30_000_000 + RETIRE_GRACE_US)
    assert not snapshot.exists()


async def test_the_first_folder_has_the_name(world, tmp_path):
    world.write("a", "# name: twin")
    world.write("b", "# name: twin")
    await world.look()
    assert world.states() == {"a": "serving", "b": "broken"}
    assert world.reason("b").endswith("skills/a")
    assert world.running["twin"].skill.folder.endswith("/a")
    shutil.rmtree(world.skills / "a")
    await world.look(after_us=LOOK_INTERVAL_US)
    assert world.states() == {"b": "serving"}
    assert world.running["twin"].skill.folder.endswith("/b")


async def test_earlier_directories_go_first(tmp_path):
    first = tmp_path / "first"
    first.mkdir()
    world = World(tmp_path, directories=[first, tmp_path / "skills", tmp_path / "nowhere"])
    shutil.copytree(world.write("greet", "# name: twin"), first / "z")
    world.write("greet", "# different\n# name: twin")
    await world.look()
    assert world.running["twin"].skill.folder == str(first / "z")
    assert "nowhere" in world.library.problems[0]


async def test_the_machines_failures_are_repeated_and_the_folders_are_not(world):
    world.write("greet")
    world.describer.error = SandboxUnavailable("no bubblewrap")
    await world.look()
    assert world.states() == {"greet": "broken"}
    await world.look(after_us=FIRST_RETRY_US - 1)
    assert len(world.describer.asked) == 1
    world.describer.error = None
    await world.look(after_us=1)
    assert world.states() == {"greet": "serving"}

    world.write("greet", "# raise")
    await world.settle()
    asked = len(world.describer.asked)
    await world.look(after_us=600_000_000)
    assert len(world.describer.asked) == asked


async def test_a_fault_of_ours_costs_one_skill_and_is_shown(world, caplog):
    world.write("greet")
    world.describer.error = ZeroDivisionError("ours")
    await world.look()
    assert world.states() == {"greet": "broken"}
    assert world.reason("greet") == "internal fault: ZeroDivisionError: ours"
    assert "preparing the skill folder" in caplog.text


async def test_a_refused_publication_is_the_folders_reason(world):
    world.write("greet", "one")
    world.refusal = Overloaded("no place")
    await world.look()
    assert (world.states(), world.reason("greet")) == ({"greet": "broken"}, "no place")
    world.refusal = None
    world.write("greet", "two")
    await world.settle()
    assert world.states() == {"greet": "serving"}
    world.refusal = Overloaded("no place")
    world.write("greet", "three")
    await world.settle()
    assert world.states() == {"greet": "reload_failed"}
    assert (world.running["greet"].runnable.folder / "handler.py").read_text() == "two"


async def test_only_a_few_are_prepared_at_once(world):
    world.describer.gate = asyncio.Barrier(PARALLEL_PREPARATIONS)
    count = 2 * PARALLEL_PREPARATIONS
    for number in range(count):
        world.write(f"skill{number}", str(number))
    await world.look()
    assert world.describer.most_at_once == PARALLEL_PREPARATIONS
    assert len(world.running) == count


async def test_a_description_is_asked_for_once(tmp_path):
    cache = DescriptionCache(tmp_path / "descriptions")
    world = World(tmp_path, descriptions=cache)
    world.write("greet", "one")
    await world.look()
    first = world.library.find("greet")
    again = World(tmp_path, descriptions=cache)
    await again.look()
    assert again.describer.asked == []
    assert again.library.find("greet") == first

    [kept] = (tmp_path / "descriptions").iterdir()
    kept.write_bytes(b"damaged")
    third = World(tmp_path, descriptions=cache)
    await third.look()
    assert len(third.describer.asked) == 1
    assert third.library.find("greet") == first
    world.write("greet", "two")
    await world.settle()
    assert len(world.describer.asked) == 2


async def test_what_was_said_with_secrets_is_not_kept(tmp_path):
    options = {"grants": {"fetch": Grant(env=("KEY",))}, "variables": {"KEY": "secret"}}
    world = World(tmp_path, descriptions=DescriptionCache(tmp_path / "descriptions"), **options)
    world.write("fetch", skill_toml='[swarm]\nenv = ["KEY"]\n')
    await world.look()
    assert world.states() == {"fetch": "serving"}
    assert not (tmp_path / "descriptions").exists()


def test_the_description_cache_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("swarmharness.skills.io.description_cache.MAX_DESCRIPTIONS", 2)
    cache = DescriptionCache(tmp_path / "descriptions")
    for number, key in enumerate("abc"):
        cache.put(key, b"{}")
        os.utime(tmp_path / "descriptions" / key, ns=(number, number))
    cache.put("d", b"x" * (FRAME_LIMIT + 1))
    assert sorted(path.name for path in (tmp_path / "descriptions").iterdir()) == ["c", "d"]
    assert [cache.get(key) for key in "acd"] == [None, b"{}", None]


async def test_a_live_folder_says_so(world, monkeypatch):
    monkeypatch.setattr("swarmharness.skills.io.snapshot.SNAPSHOT_LIMIT", 2)
    folder = world.write("greet", "long")
    await world.look()
    skill = world.library.find("greet")
    assert not skill.is_pinned
    assert world.running["greet"].runnable.folder == folder
    assert any("mounted as it lies" in line for line in skill.warnings)


async def test_the_watcher_starts_looks_and_ends(world):
    world.write("greet")
    await world.library.start()
    await world.library.wait_ready()
    assert world.states() == {"greet": "serving"}
    await world.library.close()


async def test_closing_early_wakes_who_waits_for_the_first_look(world):
    world.write("greet")
    world.describer.gate = asyncio.Barrier(2)
    await world.library.start()
    waiting = asyncio.create_task(world.library.wait_ready())
    while not world.describer.asked:
        await asyncio.sleep(0.001)
    await world.library.close()
    await waiting
    assert world.states() == {}


async def test_a_folder_that_cannot_be_looked_into_is_broken(world, monkeypatch):
    world.write("greet")
    monkeypatch.setattr("swarmharness.skills.io.listing.MAX_FILES", 1)
    await world.look()
    assert world.states() == {"greet": "broken"}
    assert "more than 1 files" in world.reason("greet")


async def test_a_node_that_cannot_install_says_so(tmp_path):
    world = World(tmp_path, environments=None, grants={"maths": Grant(requirements=("*",))})
    world.write("maths", skill_toml='[swarm]\nrequirements = ["numpy"]\n')
    await world.look()
    assert world.reason("maths") == "This node cannot install packages for skills."


async def test_a_withdrawal_that_fails_is_logged_and_done(world, caplog):
    folder = world.write("greet")
    await world.look()

    async def refuse(name: str) -> None:
        raise Overloaded("later")

    world.library._withdraw = refuse
    shutil.rmtree(folder)
    await world.look(after_us=LOOK_INTERVAL_US)
    assert world.library.skills() == {}
    assert "withdrawing greet: later" in caplog.text


async def test_a_look_that_fails_is_shown_and_the_watcher_goes_on(world, monkeypatch):
    def broken(directories):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("swarmharness.skills.io.library.scan", broken)
    await world.library.start()
    await world.library.wait_ready()
    assert "ZeroDivisionError" in world.library.problems[0]
    await world.library.close()


class LoaderDescriber:
    """The guest's own loader in a plain child process, laid out as the sandbox lays it out."""

    CODE = (
        "import sys; from pathlib import Path\n"
        "from swarmharness.skills.guest.describe import describe_json\n"
        "from swarmharness.skills.guest.loader import SkillLoadError, load_skill\n"
        "folder = Path(sys.argv[1])\n"
        "try:\n"
        "    answer = describe_json(load_skill(folder, '_skill'), folder)\n"
        "except SkillLoadError as error:\n"
        "    answer = b'!' + error.reason.encode()\n"
        "sys.stdout.buffer.write(answer)\n"
    )

    def __init__(self, root: Path) -> None:
        self.root = root

    async def describe(self, runnable: RunnableSkill) -> bytes:
        folder = self.root / runnable.digest.hex() / runnable.mount[1:]
        shutil.copytree(runnable.folder, folder, symlinks=True)
        folder.parent.chmod(0o755)
        for path in runnable.support:
            if path.is_dir():
                shutil.copytree(path, folder.parent / path.name)
            else:
                shutil.copy(path, folder.parent / path.name)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-B", "-c", self.CODE, str(folder), stdout=asyncio.subprocess.PIPE
        )
        answer, _ = await process.communicate()
        if answer[:1] == b"!":
            raise SkillBroken(answer[1:].decode())
        return answer


@pytest.mark.slow
async def test_the_whole_corpus(tmp_path):
    groups = [CORPUS / name for name in ("duplicates", "negatives", "skills")]
    world = World(tmp_path, describer=LoaderDescriber(tmp_path), directories=groups)
    await world.look()
    golden = json.loads((CORPUS / "golden.json").read_text())
    expected = {
        name: "serving" if "metadata" in found else "broken"
        for name, found in (golden["skills"] | golden["negatives"]).items()
        if not found.get("skipped")
    }
    expected |= {"skill_md_only": "skipped", "a_first": "serving", "b_second": "broken"}
    expected["no_models"] = "broken"  # HarnessAPI skips it without a word
    assert world.states() == expected
    entry = next(e for e in world.library.entries() if e.state is SkillState.SKIPPED)
    assert "nothing to run" in entry.reason
    await world.library.close()


def test_the_installed_environment_names_what_is_installed():
    environment = installed_environment()
    assert environment.interpreter.split()[1].startswith(f"{sys.version_info.major}.")
    assert any(line.startswith("pydantic-core==") for line in environment.distributions)
