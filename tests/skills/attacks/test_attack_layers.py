"""Proof that the attacks bite: without the layer that stops them, they succeed."""

from __future__ import annotations

import socket

import pytest

from skills.attacks.attack_table import TABLE, Attack
from skills.attacks.firing_range import fire, fire_unprotected
from swarmharness.skills.sandbox.launch import Switches
from swarmharness.skills.sandbox.tiers import Tier

ROWS = {attack.name: attack for attack in TABLE}

UNPROTECTED = [
    *("read a node key", "list a home", "read /etc/passwd", "read /etc/hosts"),
    *("key through ..", "key through a symlink", "open a foreign file to all"),
    *("change a foreign file's time", "loopback of the host", "abstract socket of the host"),
    *("path socket of the host", "path socket through a datagram pair", "memfd_create"),
    *("signal the parent", "32-bit call"),
]
ONLY_LANDLOCK = ["signal the parent", "write shared memory", "write scratch of others"]
ONLY_SECCOMP = [
    *("vsock", "netlink", "kernel crypto", "memfd_create", "limits of the parent"),
    *("priority of the parent", "priority of a whole user", "disk priority of a whole group"),
    *("disk priority of the parent", "user namespace", "system call ptrace"),
    *("system call unshare", "system call personality", "system call modify_ldt"),
    *("system call userfaultfd", "system call fanotify_init", "system call memfd_secret"),
    *("system call msgget",),
]
REFUSED_OTHERWISE = [
    # Without the filter the kernel looks at the arguments of these first, whoever asks.
    *("process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"),
    *("mount", "chroot", "setns", "name_to_handle_at", "add_key", "request_key", "keyctl"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
    *("shmget", "semget", "mq_open", "move_pages", "migrate_pages"),
]
"""Every other denied call is a privileged one: only the tests of the filter tell it apart."""
FAMILIES = {"vsock": (40, socket.SOCK_STREAM), "kernel crypto": (38, socket.SOCK_SEQPACKET)}


def rows(names: list[str]) -> list[Attack]:
    return [ROWS[name] for name in names if name in ROWS]


def test_the_victims_are_open_to_whoever_is_not_confined() -> None:
    answers = fire_unprotected(rows(UNPROTECTED))
    stopped = {name: a for name, a in answers.items() if a in ROWS[name].expected("1")}
    assert stopped == {}


def test_a_secret_of_the_node_is_in_its_environment() -> None:
    assert fire_unprotected(rows(["secrets in the environment"])) == {
        "secrets in the environment": "done: True"
    }


@pytest.mark.parametrize(
    ("switches", "names"),
    [
        pytest.param(Switches(landlock=False), ONLY_LANDLOCK, id="Landlock"),
        pytest.param(Switches(seccomp=False), ONLY_SECCOMP, id="seccomp"),
    ],
)
def test_a_layer_that_is_alone_in_stopping_an_attack(switches: Switches, names: list[str]) -> None:
    attacks = rows([name for name in names if _kernel_knows(name)])
    protected = fire(attacks, tier=Tier.FULL, mode="fork")
    bare = fire(attacks, tier=Tier.FULL, mode="fork", switches=switches)
    for attack in attacks:
        assert protected[attack.name] in attack.expected("1"), attack.name
        answer = bare[attack.name]
        if answer == "ENOSYS" and attack.name.startswith("system call"):
            continue  # this kernel was built without it
        assert answer.startswith("done"), f"{attack.name}: {answer}"


def test_the_filter_answers_before_the_kernel_does() -> None:
    attacks = rows([f"system call {name}" for name in REFUSED_OTHERWISE])
    assert len(attacks) == len(REFUSED_OTHERWISE)
    bare = fire(attacks, tier=Tier.FULL, mode="fork", switches=Switches(seccomp=False))
    assert [name for name, answer in bare.items() if answer == "EPERM"] == []


def _kernel_knows(name: str) -> bool:
    """A kernel without that address family refuses it by itself."""
    try:
        if name in FAMILIES:
            socket.socket(*FAMILIES[name]).close()
    except OSError:
        return False
    return True
