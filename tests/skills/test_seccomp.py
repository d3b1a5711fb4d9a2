import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skills.denied_calls import (
    DENIED,
    DENIED_WITHOUT_NAMESPACES,
    MACHINES,
    MISSING,
    ON_ONESELF,
    Numbers,
)
from swarmharness.skills.errors import SandboxUnavailable
from swarmharness.skills.sandbox.seccomp import (
    ALLOW,
    ARCHITECTURES,
    ERRNO,
    KILL,
    Instruction,
    assemble,
    program,
)

KERNEL_LIMIT = 4096  # steps of one filter
HIGHEST_NUMBER = 600  # no machine has a call beyond it yet
REFUSED = ERRNO | errno.EPERM


def run(
    steps: list[Instruction], machine: str, number: int, *arguments: int, arch: int | None = None
) -> int:
    """What the kernel would do: classic BPF over `struct seccomp_data`."""
    padded = (*arguments, *([0] * (6 - len(arguments))))
    data = struct.pack(
        "<IIQ6Q", number, ARCHITECTURES[machine].audit_id if arch is None else arch, 0, *padded
    )
    accumulator, place = 0, 0
    while True:
        code, if_true, if_false, value = steps[place]
        place += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return value
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[code]
            place += if_true if holds else if_false


def call(machine: str, name: str, *arguments: int, namespaces: bool = True) -> int:
    steps = program(machine, namespaces=namespaces)
    return run(steps, machine, ARCHITECTURES[machine].numbers[name], *arguments)


def verdicts(table: dict[str, Numbers], error: int) -> list[tuple[str, int, str, int]]:
    return [
        (machine, number, name, ERRNO | error)
        for name, both in table.items()
        for machine, number in zip(MACHINES, both, strict=True)
        if number is not None
    ]


@pytest.mark.parametrize("namespaces", [True, False])
@pytest.mark.parametrize(
    ("machine", "number", "name", "verdict"),
    [*verdicts(DENIED, errno.EPERM), *verdicts(MISSING, errno.ENOSYS)],
)
def test_a_denied_call_is_refused_whatever_its_arguments(
    machine: str, number: int, name: str, verdict: int, namespaces: bool
) -> None:
    steps = program(machine, namespaces=namespaces)
    for arguments in ([0] * 6, [1] * 6, [2**64 - 1] * 6):
        assert run(steps, machine, number, *arguments) == verdict, name


@pytest.mark.parametrize("namespaces", [True, False])
@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_else_is_refused(machine: str, namespaces: bool) -> None:
    """With arguments of 0, which pass every rule that looks at them but those for sockets."""
    expected = {number for m, number, _, _ in verdicts(DENIED | MISSING, 0) if m == machine}
    more = verdicts(DENIED_WITHOUT_NAMESPACES, 0)
    expected |= set() if namespaces else {number for m, number, _, _ in more if m == machine}
    expected |= {ARCHITECTURES[machine].numbers[name] for name in ("socket", "socketpair")}
    expected |= {ON_ONESELF["ioprio_set"][0][MACHINES.index(machine)] or 0}
    steps = program(machine, namespaces=namespaces)
    refused = {n for n in range(HIGHEST_NUMBER) if run(steps, machine, n) != ALLOW}
    assert refused == expected


@pytest.mark.parametrize(
    ("machine", "numbers"),
    [
        ("x86_64", {"read": 0, "mmap": 9, "fork": 57, "execve": 59, "kill": 62, "landlock": 444}),
        ("aarch64", {"read": 63, "mmap": 222, "execve": 221, "kill": 129, "landlock": 444}),
    ],
)
def test_ordinary_calls_pass(machine: str, numbers: dict[str, int]) -> None:
    for name, number in numbers.items():
        assert run(program(machine), machine, number) == ALLOW, name


@pytest.mark.parametrize("machine", MACHINES)
def test_threads_and_forks_pass_but_new_namespaces_do_not(machine: str) -> None:
    thread = 0x3D0F00  # what pthread_create asks for
    assert call(machine, "clone", thread) == ALLOW
    assert call(machine, "clone", 17) == ALLOW
    for bit in (17, 25, 26, 27, 28, 29, 30):
        assert call(machine, "clone", 17 | 1 << bit) == ERRNO | errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("family", "kind", "verdict"),
    [
        (1, 1, ALLOW),
        (2, 1 | 0o4000 | 0o2000000, ALLOW),
        (10, 2, ALLOW),
        (1, 5, ALLOW),
        (2, 3, ERRNO | errno.EPERM),
        (10, 10, ERRNO | errno.EPERM),
        (16, 3, ERRNO | errno.EAFNOSUPPORT),
        (17, 3, ERRNO | errno.EAFNOSUPPORT),
        (38, 5, ERRNO | errno.EAFNOSUPPORT),
        (40, 1, ERRNO | errno.EAFNOSUPPORT),
        (0, 1, ERRNO | errno.EAFNOSUPPORT),
    ],
)
def test_only_plain_sockets_of_three_families(
    machine: str, family: int, kind: int, verdict: int
) -> None:
    assert call(machine, "socket", family, kind) == verdict
    assert call(machine, "socketpair", family, kind) == verdict


@pytest.mark.parametrize("machine", MACHINES)
def test_the_upper_half_of_an_argument_cannot_hide_the_lower(machine: str) -> None:
    assert call(machine, "socket", 40 | 1 << 32, 1) == ERRNO | errno.EAFNOSUPPORT


@pytest.mark.parametrize("machine", MACHINES)
def test_without_namespaces_only_connected_pairs_are_left(machine: str) -> None:
    for family in (1, 2, 10):
        assert call(machine, "socket", family, 1, namespaces=False) == ERRNO | errno.EPERM
    assert call(machine, "socketpair", 1, 1, namespaces=False) == ALLOW
    assert call(machine, "socketpair", 1, 5, namespaces=False) == ALLOW
    assert call(machine, "socketpair", 1, 2, namespaces=False) == ERRNO | errno.EPERM
    assert call(machine, "socketpair", 2, 1, namespaces=False) == ERRNO | errno.EAFNOSUPPORT


@pytest.mark.parametrize(
    ("machine", "number", "name", "verdict"), verdicts(DENIED_WITHOUT_NAMESPACES, errno.EPERM)
)
def test_without_namespaces_file_names_cannot_be_tampered_with(
    machine: str, number: int, name: str, verdict: int
) -> None:
    assert run(program(machine, namespaces=False), machine, number, 1, 1) == verdict, name
    assert run(program(machine), machine, number, 1, 1) == ALLOW, name


@pytest.mark.parametrize("namespaces", [True, False])
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", list(ON_ONESELF))
def test_limits_and_priority_can_be_lowered_for_oneself_only(
    machine: str, name: str, namespaces: bool
) -> None:
    both, oneself = ON_ONESELF[name]
    number = both[MACHINES.index(machine)]
    assert number is not None
    steps = program(machine, namespaces=namespaces)
    assert run(steps, machine, number, *oneself, 1, 1) == ALLOW
    for place, allowed in enumerate(oneself):
        for other in {0, 1, 2, 3, 4711, 2**31} - {allowed}:
            arguments = [*oneself[:place], other, *oneself[place + 1 :]]
            assert run(steps, machine, number, *arguments) == REFUSED, arguments


@pytest.mark.parametrize("machine", MACHINES)
def test_the_processors_of_others_are_not_chosen(machine: str) -> None:
    assert call(machine, "sched_setaffinity", 4711, namespaces=False) == REFUSED
    assert call(machine, "sched_setaffinity", 0, namespaces=False) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_typing_into_a_terminal_and_making_devices(machine: str) -> None:
    assert call(machine, "ioctl", 0, 0x5412) == ERRNO | errno.EPERM
    assert call(machine, "ioctl", 0, 0x541C) == ERRNO | errno.EPERM
    assert call(machine, "ioctl", 0, 0x5401) == ALLOW
    assert call(machine, "mknodat", 0, 0, 0o020666) == ERRNO | errno.EPERM
    assert call(machine, "mknodat", 0, 0, 0o060666) == ERRNO | errno.EPERM
    assert call(machine, "mknodat", 0, 0, 0o010600) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_for_another_machine_kills(machine: str) -> None:
    i386 = 0x40000003
    assert run(program(machine), machine, 0, arch=i386) == KILL


def test_x32_kills() -> None:
    assert run(program("x86_64"), "x86_64", 0x40000000) == KILL
    assert run(program("x86_64"), "x86_64", 0x40000000 | 101) == KILL
    assert run(program("x86_64"), "x86_64", 0xFFFFFFFF) == KILL


def test_an_unknown_machine_runs_nothing() -> None:
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        program("riscv64")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("namespaces", [True, False])
def test_the_kernel_takes_the_program(machine: str, namespaces: bool) -> None:
    steps = program(machine, namespaces=namespaces)
    assert len(steps) < KERNEL_LIMIT
    assert len(assemble(steps)) == 8 * len(steps)
    for place, step in enumerate(steps):
        if step.code in (0x15, 0x35, 0x45):
            assert place + 1 + max(step.if_true, step.if_false) < len(steps), "jumps stay inside"
    assert steps[-1] == Instruction(0x06, 0, 0, ALLOW)


@given(
    number=st.integers(0, 0xFFFFFFFF),
    arguments=st.lists(st.integers(0, 2**64 - 1), max_size=6),
    machine=st.sampled_from(MACHINES),
)
def test_every_call_gets_a_verdict(number: int, arguments: list[int], machine: str) -> None:
    verdict = run(program(machine), machine, number, *arguments)
    assert verdict in (ALLOW, KILL) or verdict & 0xFFFF0000 == ERRNO
