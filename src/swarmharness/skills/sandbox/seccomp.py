"""The seccomp filter is the list of system calls that no skill may make, as a BPF program.

Theory of operation. It is a deny-list: an allow-list breaks on every new libc, and the other
layers already hide what most calls could reach. It removes three things. Calls that reach
another process or build new namespaces (a fresh user namespace is where kernel exploits start).
Kernel interfaces that are large, privileged or hard to account for (bpf, io_uring, keys, System V
memory). Sockets that a network namespace does not contain: AF_VSOCK reaches the hypervisor from
any namespace, and only this filter stops it.

`clone3` and `memfd_create` answer ENOSYS so that libc falls back to what can be inspected:
clone3's flags lie behind a pointer. A call made for another architecture (or x32) would be read
with the wrong table, so it kills the process.

Without namespaces (tier 2) the same user owns the machine, and Landlock governs opening files,
not what is done to their names: so changing modes, owners, times and attributes goes as well, and
every socket but a connected pair, since a path socket needs no open either.

Each rule is a comparison followed by its verdict. The order is: architecture, x32, the calls
whose arguments matter, the plain list, allow.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Final, NamedTuple, final

from swarmharness.skills.errors import SandboxUnavailable

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT = 0x20, 0x15, 0x35, 0x45
AND, RETURN = 0x54, 0x06

ALLOW: Final = 0x7FFF0000
KILL: Final = 0x80000000
ERRNO: Final = 0x00050000
_NUMBER_OFFSET, _ARCH_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_X32_BIT = 0x40000000

# CLONE_NEW{TIME,NS,CGROUP,UTS,IPC,USER,PID,NET}; NEWTIME shares its bit with the exit signal
_NAMESPACE_FLAGS = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000
_NAMESPACE_FLAGS |= 0x10000000 | 0x20000000 | 0x40000000
_FILE_TYPE_MASK, _CHARACTER_DEVICE, _BLOCK_DEVICE = 0xF000, 0x2000, 0x6000
_SOCKET_TYPE_MASK = 0xF
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
_SOCKET_TYPES = (1, 2, 5)  # stream, datagram, seqpacket
_PAIR_TYPES = (1, 5)  # a datagram pair can be sent elsewhere, a connected one cannot
_TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX type into the owner's terminal

DENIED = (
    # other processes
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise"),
    *("kcmp", "pidfd_getfd"),
    # file systems and namespaces
    *("mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "unshare", "setns"),
    *("open_by_handle_at", "name_to_handle_at", "fanotify_init", "fanotify_mark"),
    *("quotactl", "quotactl_fd", "swapon", "swapoff", "acct"),
    # wide kernel interfaces
    *("bpf", "perf_event_open", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("userfaultfd", "memfd_secret", "add_key", "request_key", "keyctl", "lookup_dcookie"),
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module"),
    *("reboot", "syslog", "vhangup", "personality", "nfsservctl"),
    *("iopl", "ioperm", "modify_ldt", "uselib", "_sysctl", "create_module", "query_module"),
    # the machine's clock and name
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
    *("sethostname", "setdomainname"),
    # memory that outlives its process and escapes the meters
    *("shmget", "msgget", "semget", "mq_open", "move_pages", "migrate_pages"),
)
ONLY_ON_ONESELF = {
    # Limits and priorities, by the first arguments that name the caller alone. Where those say
    # what is meant (a process, a group, a user), 0 may stand for everything that the owner runs.
    **dict.fromkeys(("prlimit64", "sched_setscheduler", "sched_setparam", "sched_setattr"), (0,)),
    "setpriority": (0, 0),
    "ioprio_set": (1, 0),
}
DENIED_WITHOUT_NAMESPACES = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchown", "fchownat"),
    *("setxattr", "lsetxattr", "fsetxattr", "setxattrat", "file_setattr"),
    *("removexattr", "lremovexattr", "fremovexattr", "removexattrat"),
    *("utime", "utimes", "futimesat", "utimensat"),
    *("socket", "connect", "bind", "listen"),
)
MISSING = ("clone3", "memfd_create")


@final
class Architecture(NamedTuple):
    """The kernel's numbers for one machine type."""

    audit_id: int
    has_x32: bool
    numbers: dict[str, int]


_SAME_EVERYWHERE = {
    "pidfd_getfd": 438, "process_madvise": 440, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
    "open_tree_attr": 467, "quotactl_fd": 443, "memfd_secret": 447, "clone3": 435,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469,
}  # fmt: skip

ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, True, _SAME_EVERYWHERE | {  # noqa: FBT003  a table row
        "ioctl": 16, "shmget": 29, "socket": 41, "socketpair": 53, "clone": 56, "semget": 64,
        "msgget": 68, "ptrace": 101, "syslog": 103, "mknod": 133, "uselib": 134,
        "personality": 135, "vhangup": 153, "modify_ldt": 154, "pivot_root": 155,
        "_sysctl": 156, "adjtimex": 159, "chroot": 161, "acct": 163, "settimeofday": 164,
        "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
        "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
        "create_module": 174, "init_module": 175, "delete_module": 176, "query_module": 178,
        "quotactl": 179, "nfsservctl": 180, "lookup_dcookie": 212, "clock_settime": 227,
        "mq_open": 240, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250,
        "migrate_pages": 256, "mknodat": 259, "unshare": 272, "move_pages": 279,
        "perf_event_open": 298, "fanotify_init": 300, "fanotify_mark": 301,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
        "memfd_create": 319, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
        "connect": 42, "bind": 49, "listen": 50, "chmod": 90, "fchmod": 91, "chown": 92,
        "fchown": 93, "lchown": 94, "utime": 132, "setpriority": 141, "sched_setparam": 142,
        "sched_setscheduler": 144, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
        "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "sched_setaffinity": 203,
        "utimes": 235, "ioprio_set": 251, "fchownat": 260, "futimesat": 261, "fchmodat": 268,
        "utimensat": 280, "prlimit64": 302, "sched_setattr": 314,
    }),
    "aarch64": Architecture(0xC00000B7, False, _SAME_EVERYWHERE | {  # noqa: FBT003  a table row
        "lookup_dcookie": 18, "ioctl": 29, "mknodat": 33, "umount2": 39, "mount": 40,
        "pivot_root": 41, "nfsservctl": 42, "chroot": 51, "vhangup": 58, "quotactl": 60,
        "acct": 89, "personality": 92, "unshare": 97, "kexec_load": 104, "init_module": 105,
        "delete_module": 106, "clock_settime": 112, "syslog": 116, "ptrace": 117,
        "reboot": 142, "sethostname": 161, "setdomainname": 162, "settimeofday": 170,
        "adjtimex": 171, "mq_open": 180, "msgget": 186, "semget": 190, "shmget": 194,
        "socket": 198, "socketpair": 199, "add_key": 217, "request_key": 218, "keyctl": 219,
        "clone": 220, "swapon": 224, "swapoff": 225, "migrate_pages": 238, "move_pages": 239,
        "perf_event_open": 241, "fanotify_init": 262, "fanotify_mark": 263,
        "name_to_handle_at": 264, "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "finit_module": 273,
        "memfd_create": 279, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15,
        "fremovexattr": 16, "ioprio_set": 30, "fchmod": 52, "fchmodat": 53, "fchownat": 54,
        "fchown": 55, "utimensat": 88, "sched_setparam": 118, "sched_setscheduler": 119,
        "sched_setaffinity": 122, "setpriority": 140, "bind": 200, "listen": 201,
        "connect": 203, "prlimit64": 261, "sched_setattr": 274,
    }),
}  # fmt: skip


class Instruction(NamedTuple):
    """One step of classic BPF; the jumps count instructions to skip."""

    code: int
    if_true: int
    if_false: int
    value: int


def program(machine: str | None = None, *, namespaces: bool = True) -> list[Instruction]:
    """The filter for a machine type; it is stricter where no namespaces stand around it."""
    name = machine or os.uname().machine
    if name not in ARCHITECTURES:
        raise SandboxUnavailable(
            f"No system-call filter is known for {name} machines.",
            hint="Nodes that run skills need an x86_64 or aarch64 machine.",
        )
    architecture = ARCHITECTURES[name]
    numbers = architecture.numbers
    steps = [
        Instruction(LOAD, 0, 0, _ARCH_OFFSET),
        Instruction(JUMP_EQUAL, 1, 0, architecture.audit_id),
        Instruction(RETURN, 0, 0, KILL),
        Instruction(LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    if architecture.has_x32:
        steps += [
            Instruction(JUMP_AT_LEAST, 0, 1, _X32_BIT),
            Instruction(RETURN, 0, 0, KILL),
        ]
    steps += _when(numbers["clone"], _refuse_bits(_NAMESPACE_FLAGS))
    if namespaces:
        steps += _when(numbers["socket"], _check_socket(_FAMILIES, _SOCKET_TYPES))
        steps += _when(numbers["socketpair"], _check_socket(_FAMILIES, _SOCKET_TYPES))
    else:
        steps += _when(numbers["socketpair"], _check_socket(_FAMILIES[:1], _PAIR_TYPES))
        steps += _when(numbers["sched_setaffinity"], _refuse_unless((0,)))
    for name, arguments in ONLY_ON_ONESELF.items():
        steps += _when(numbers[name], _refuse_unless(arguments))
    steps += _when(numbers["ioctl"], _refuse_values(1, 0xFFFFFFFF, _TERMINAL_INJECTION))
    devices = (_CHARACTER_DEVICE, _BLOCK_DEVICE)
    if "mknod" in numbers:
        steps += _when(numbers["mknod"], _refuse_values(1, _FILE_TYPE_MASK, devices))
    steps += _when(numbers["mknodat"], _refuse_values(2, _FILE_TYPE_MASK, devices))
    for name in MISSING:
        steps += _when(numbers[name], [_refuse(errno.ENOSYS)])
    for name in DENIED if namespaces else (*DENIED, *DENIED_WITHOUT_NAMESPACES):
        if name in numbers:
            steps += _when(numbers[name], [_refuse(errno.EPERM)])
    steps.append(_ALLOW)
    return steps


def assemble(steps: list[Instruction]) -> bytes:
    """The bytes that the kernel and bubblewrap take."""
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


_ALLOW = Instruction(RETURN, 0, 0, ALLOW)
NO_PROGRAM = [_ALLOW]
"""A filter that lets everything pass: only for tests that prove what the real one prevents."""


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    """The body replaces the loaded number, so it must end in a verdict on every way."""
    assert body[-1].code == RETURN, "a rule without a verdict would fall into the next one"
    return [Instruction(JUMP_EQUAL, 0, len(body), number), *body]


def _argument(index: int) -> Instruction:
    # Little-endian lower half; every argument looked at here is an int in the kernel.
    return Instruction(LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * index)


def _refuse(error: int) -> Instruction:
    return Instruction(RETURN, 0, 0, ERRNO | error)


def _refuse_bits(bits: int) -> list[Instruction]:
    return [_argument(0), Instruction(JUMP_ANY_BIT, 0, 1, bits), _refuse(errno.EPERM), _ALLOW]


def _refuse_values(argument: int, mask: int, values: tuple[int, ...]) -> list[Instruction]:
    steps = [_argument(argument), Instruction(AND, 0, 0, mask)]
    for value in values:
        steps += [Instruction(JUMP_EQUAL, 0, 1, value), _refuse(errno.EPERM)]
    return [*steps, _ALLOW]


def _refuse_unless(arguments: tuple[int, ...]) -> list[Instruction]:
    steps = []
    for place, value in enumerate(arguments):
        steps += [_argument(place), Instruction(JUMP_EQUAL, 1, 0, value), _refuse(errno.EPERM)]
    return [*steps, _ALLOW]


def _check_socket(families: tuple[int, ...], types: tuple[int, ...]) -> list[Instruction]:
    return [
        _argument(0),
        *_skip_refusal_if_any(families, errno.EAFNOSUPPORT),
        _argument(1),
        Instruction(AND, 0, 0, _SOCKET_TYPE_MASK),
        *_skip_refusal_if_any(types, errno.EPERM),
        _ALLOW,
    ]


def _skip_refusal_if_any(values: tuple[int, ...], error: int) -> list[Instruction]:
    """Each match jumps over the comparisons that are left and over the refusal."""
    left = len(values)
    jumps = [Instruction(JUMP_EQUAL, left - place, 0, v) for place, v in enumerate(values)]
    return [*jumps, _refuse(error)]
