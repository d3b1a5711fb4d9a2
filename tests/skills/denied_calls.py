"""The denied calls are written down here a second time, on purpose.

Tests that took the list from the filter itself would shrink with it. The numbers are those of the
kernel's headers, for x86_64 and aarch64; None where that machine never had the call.
"""

from __future__ import annotations

import os

Numbers = tuple[int | None, int | None]
MACHINES = ("x86_64", "aarch64")

DENIED: dict[str, Numbers] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "move_mount": (429, 429), "open_tree": (428, 428), "open_tree_attr": (467, 467),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "bpf": (321, 280),
    "perf_event_open": (298, 241), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "userfaultfd": (323, 282), "memfd_secret": (447, 447),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "lookup_dcookie": (212, 18), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "reboot": (169, 142), "syslog": (103, 116), "vhangup": (153, 58), "personality": (135, 92),
    "nfsservctl": (180, 42), "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None),
    "uselib": (134, None), "_sysctl": (156, None), "create_module": (174, None),
    "query_module": (178, None), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161),
    "setdomainname": (171, 162), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190),
    "mq_open": (240, 180), "move_pages": (279, 239), "migrate_pages": (256, 238),
}  # fmt: skip
"""Refused with EPERM in every tier, whatever the arguments."""

DENIED_WITHOUT_NAMESPACES: dict[str, Numbers] = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "file_setattr": (469, 469), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "removexattrat": (466, 466), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "socket": (41, 198),
    "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
}  # fmt: skip
"""Refused with EPERM in tier 2, allowed (some of them with conditions) elsewhere."""

MISSING: dict[str, Numbers] = {"clone3": (435, 435), "memfd_create": (319, 279)}
"""Refused with ENOSYS, so that libc falls back."""

ON_ONESELF: dict[str, tuple[Numbers, tuple[int, ...]]] = {
    "prlimit64": ((302, 261), (0,)),
    "sched_setscheduler": ((144, 119), (0,)),
    "sched_setparam": ((142, 118), (0,)),
    "sched_setattr": ((314, 274), (0,)),
    "setpriority": ((141, 140), (0, 0)),
    "ioprio_set": ((251, 30), (1, 0)),
}
"""The only first arguments that pass: they name the calling process and nothing else."""


def numbers_here(table: dict[str, Numbers]) -> dict[str, int]:
    """By name, the numbers of the machine that runs the tests."""
    place = MACHINES.index(os.uname().machine)
    return {name: n for name, both in table.items() if (n := both[place]) is not None}
