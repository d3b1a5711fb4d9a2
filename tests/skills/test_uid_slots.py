import os
from pathlib import Path

import pytest

from swarmharness.skills.errors import Overloaded, SandboxUnavailable
from swarmharness.skills.sandbox import uid_slots
from swarmharness.skills.sandbox.uid_slots import FIRST_UID, take_uid_slot


def test_each_slot_is_lent_once(tmp_path: Path) -> None:
    directory = tmp_path / "locks"
    first, second = take_uid_slot(directory), take_uid_slot(directory)
    assert (first.uid, second.uid) == (FIRST_UID, FIRST_UID + 1)
    first.release()
    first.release()
    third = take_uid_slot(directory)
    assert third.uid == FIRST_UID
    second.release()
    third.release()


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(take_uid_slot(tmp_path).uid).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reader, 16)) == FIRST_UID
    os.close(reader)
    os.close(writer)
    slot = take_uid_slot(tmp_path)
    assert slot.uid == FIRST_UID
    slot.release()


def test_a_user_id_with_a_name_is_somebodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uid_slots, "_has_name", lambda uid: uid == FIRST_UID)
    slot = take_uid_slot(tmp_path)
    assert slot.uid == FIRST_UID + 1
    slot.release()


def test_all_slots_taken_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uid_slots, "LAST_UID", FIRST_UID)
    slot = take_uid_slot(tmp_path)
    with pytest.raises(Overloaded, match="64100"):
        take_uid_slot(tmp_path)
    slot.release()


def test_nowhere_to_lock_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="locks"):
        take_uid_slot(tmp_path / "missing" / "locks")
