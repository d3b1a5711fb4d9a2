from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarmharness.skills.catalogue import Catalogue, Publish, SkillState, Withdraw


class Version(NamedTuple):
    name: str
    generation: bytes


ONE, TWO = Version("greet", b"1"), Version("greet", b"2")


def settle(catalogue: Catalogue[Version]) -> list:
    """Carries out all changes, as the library does."""
    done = []
    while changes := catalogue.changes():
        done.append(changes[0])
        catalogue.confirm(changes[0])
    return done


def states(catalogue: Catalogue[Version]) -> dict[str, SkillState]:
    return {entry.folder: entry.state for entry in catalogue.entries()}


def test_a_loaded_skill_is_published_once():
    catalogue: Catalogue[Version] = Catalogue()
    catalogue.arrange(["a"])
    assert catalogue.entries() == []
    catalogue.loaded("a", ONE)
    assert settle(catalogue) == [Publish(ONE)]
    assert settle(catalogue) == []
    assert catalogue.published() == {"greet": ONE}
    assert states(catalogue) == {"a": SkillState.SERVING}


def test_a_new_version_takes_the_place_of_the_old():
    catalogue: Catalogue[Version] = Catalogue()
    catalogue.arrange(["a"])
    catalogue.loaded("a", ONE)
    settle(catalogue)
    catalogue.loaded("a", TWO)
    assert settle(catalogue) == [Publish(TWO)]


def test_a_failed_reload_keeps_the_old_one():
    catalogue: Catalogue[Version] = Catalogue()
    catalogue.arrange(["a", "b"])
    catalogue.loaded("a", ONE)
    settle(catalogue)
    catalogue.failed("a", "a", "line 3")
    catalogue.failed("b", "b", "needs a network", blocked=True)
    assert settle(catalogue) == []
    first, second = catalogue.entries()
    assert (first.state, first.reason, first.served) == (SkillState.RELOAD_FAILED, "line 3", ONE)
    assert first.name == "greet"
    assert (second.state, second.served) == (SkillState.BLOCKED, None)


def test_the_first_folder_has_the_name_and_the_second_inherits_it():
    catalogue: Catalogue[Version] = Catalogue()
    catalogue.arrange(["a", "b"])
    catalogue.loaded("b", TWO)
    settle(catalogue)
    catalogue.loaded("a", ONE)
    assert settle(catalogue) == [Publish(ONE)]
    second = catalogue.entries()[1]
    assert second.state is SkillState.BROKEN
    assert "taken by the folder a" in second.reason
    catalogue.arrange(["b"])
    assert settle(catalogue) == [Publish(TWO)]
    assert states(catalogue) == {"b": SkillState.SERVING}


def test_a_folder_that_goes_is_withdrawn():
    catalogue: Catalogue[Version] = Catalogue()
    catalogue.arrange(["a"])
    catalogue.loaded("a", ONE)
    settle(catalogue)
    catalogue.arrange([])
    assert settle(catalogue) == [Withdraw("greet")]
    assert catalogue.entries() == []


def test_a_skill_that_becomes_mere_text_is_withdrawn():
    catalogue: Catalogue[Version] = Catalogue()
    catalogue.arrange(["a"])
    catalogue.loaded("a", ONE)
    settle(catalogue)
    catalogue.skipped("a", "a", "only text")
    assert settle(catalogue) == [Withdraw("greet")]
    assert states(catalogue) == {"a": SkillState.SKIPPED}


def test_a_renamed_skill_leaves_its_old_name():
    catalogue: Catalogue[Version] = Catalogue()
    catalogue.arrange(["a"])
    catalogue.loaded("a", ONE)
    settle(catalogue)
    renamed = Version("hello", b"1")
    catalogue.loaded("a", renamed)
    assert settle(catalogue) == [Withdraw("greet"), Publish(renamed)]


def test_a_version_that_cannot_be_published_leaves_the_one_before():
    catalogue: Catalogue[Version] = Catalogue()
    catalogue.arrange(["a"])
    catalogue.loaded("a", ONE)
    settle(catalogue)
    catalogue.loaded("a", TWO)
    catalogue.refused(TWO, "no place")
    assert settle(catalogue) == []
    assert states(catalogue) == {"a": SkillState.RELOAD_FAILED}
    assert catalogue.published() == {"greet": ONE}


def test_a_first_version_that_cannot_be_published_is_broken():
    catalogue: Catalogue[Version] = Catalogue()
    catalogue.arrange(["a", "b"])
    catalogue.loaded("b", TWO)
    settle(catalogue)
    catalogue.loaded("a", ONE)
    catalogue.refused(ONE, "no place")
    assert settle(catalogue) == []
    assert states(catalogue) == {"a": SkillState.BROKEN, "b": SkillState.SERVING}


class Folders(RuleBasedStateMachine):
    """Any sequence of outcomes ends with each name served by the first folder that can."""

    FOLDERS = ("a", "b", "c")

    def __init__(self) -> None:
        super().__init__()
        self.catalogue: Catalogue[Version] = Catalogue()
        self.present = list(self.FOLDERS)
        self.good: dict[str, Version] = {}
        self.catalogue.arrange(self.present)

    folders = st.sampled_from(FOLDERS)

    @rule(folder=folders, name=st.sampled_from(["x", "y"]), generation=st.binary(max_size=1))
    def load(self, folder, name, generation):
        if folder in self.present:
            self.good[folder] = Version(name, generation)
            self.catalogue.loaded(folder, self.good[folder])

    @rule(folder=folders, blocked=st.booleans())
    def fail(self, folder, blocked):
        if folder in self.present:
            self.catalogue.failed(folder, folder, "reason", blocked=blocked)

    @rule(present=st.sets(folders))
    def arrange(self, present):
        self.present = sorted(present)
        self.good = {f: v for f, v in self.good.items() if f in present}
        self.catalogue.arrange(self.present)

    @invariant()
    def the_first_able_folder_serves(self):
        settle(self.catalogue)
        expected: dict[str, bytes] = {}
        for folder in self.present:
            if folder in self.good:
                expected.setdefault(self.good[folder].name, self.good[folder].generation)
        found = {name: v.generation for name, v in self.catalogue.published().items()}
        assert found == expected

    @invariant()
    def every_line_that_serves_is_published_and_every_other_has_a_reason(self):
        for entry in self.catalogue.entries():
            is_serving = entry.state in {SkillState.SERVING, SkillState.RELOAD_FAILED}
            assert is_serving is (entry.served is not None)
            assert bool(entry.reason) is (entry.state is not SkillState.SERVING)


TestFolders = Folders.TestCase
