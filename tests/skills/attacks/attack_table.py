"""The attack table: what foreign code tries, and the only answers that it may get.

Each row is code that runs inside a sandbox. `tier1` lists the acceptable answers with
namespaces, `tier2` without them. An answer that starts with `done` means that nothing stopped
the code; a few rows expect exactly that, because the danger is in what it would return.

No row would harm a machine whose sandbox failed: floods are bounded, addresses are reserved for
documentation, and the victims are files and processes of the test itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

from skills.denied_calls import DENIED, DENIED_WITHOUT_NAMESPACES, numbers_here
from swarmharness.skills.sandbox.seccomp import ARCHITECTURES

NUMBERS = ARCHITECTURES[os.uname().machine].numbers
ARGUMENTS = {
    # Where the kernel would refuse zeros with the filter's own EPERM, and something else tells.
    "fanotify_init": "0x200, 0",  # FAN_REPORT_FID: what everybody may ask for
    "move_pages": "0, 0, 0, 0, 0, 8",  # no such flag: EINVAL
    "settimeofday": "1, 0",  # no such address: EFAULT
    "userfaultfd": "1",  # UFFD_USER_MODE_ONLY: what everybody may ask for
}


@dataclass(frozen=True)
class Attack:
    name: str
    code: str
    tier1: frozenset[str]
    tier2: frozenset[str]
    modes: frozenset[str]
    is_alone: bool
    """Whether it gets a call of its own, because it could disturb the rows beside it."""

    def expected(self, tier: str) -> frozenset[str]:
        return self.tier2 if tier == "2" else self.tier1


def row(
    name: str,
    code: str,
    tier1: str,
    tier2: str | None = None,
    *,
    modes: str = "fork worker oneshot",
    is_alone: bool = False,
) -> Attack:
    """Answers are separated by ` | `; without `tier2` they are the same."""
    return Attack(
        name,
        code,
        frozenset(tier1.split(" | ")),
        frozenset((tier2 or tier1).split(" | ")),
        frozenset(modes.split()),
        is_alone,
    )


_SOCKET = "import socket as s; k = s.socket({}); k.settimeout(2); {}"
NOTHING = "done: None"

READ = [
    row("read a node key", "open(secret_file).read()", "ENOENT", "EACCES"),
    row("list a home", "os.listdir(home)", "ENOENT", "EACCES"),
    row("read /etc/shadow", "open('/etc/shadow').read()", "ENOENT", "EACCES"),
    row("read /etc/passwd", "open('/etc/passwd').read()", "ENOENT", "EACCES"),
    row("read /etc/hosts", "open('/etc/hosts').read()", "ENOENT", "EACCES"),
    row("list the root", "result = 'var' in os.listdir('/')", "done: False", "EACCES"),
    row("key through ..", "open(call_dir + '/..' * 20 + secret_file)", "ENOENT", "EACCES"),
    row(
        "key through a symlink",
        "os.symlink(secret_file, call_dir + '/x'); open(call_dir + '/x')",
        "ENOENT",
        "EACCES",
    ),
    row("key through pid 1's root", "open('/proc/1/root' + secret_file)", "EACCES"),
    row("environment of pid 1", "open('/proc/1/environ').read()", "EACCES"),
    row("secrets in the environment", "result = secret in repr(os.environ)", "done: False"),
    row("kernel memory", "open('/dev/mem')", "ENOENT", "EACCES | ENOENT"),
    row("disks", "open('/dev/' + disk)", "ENOENT", "EACCES"),
    row("terminal", "open('/dev/tty')", "ENOENT", "EACCES | ENXIO"),
]

WRITE = [
    row("write /usr", "open('/usr/x', 'w')", "EROFS | EACCES", "EACCES"),
    row("write the skill", "open(app + '/x', 'w')", "EROFS | EACCES", "EACCES"),
    row("write the guest code", "open(guest + '/confine.py', 'a')", "EROFS | EACCES", "EACCES"),
    row("write /etc", "open('/etc/x', 'w')", "EROFS | EACCES", "EACCES"),
    row("write /", "open('/x', 'w')", "EROFS | EACCES", "EACCES"),
    row("write /dev", "open('/dev/x', 'w')", "EROFS | EACCES", "EACCES"),
    row("write /proc/sys", "open('/proc/sys/kernel/hostname', 'w')", "EROFS | EACCES", "EACCES"),
    row("core pattern", "open('/proc/sys/kernel/core_pattern', 'w')", "EROFS | EACCES", "EACCES"),
    row("overwrite a foreign file", "open(victim_file, 'w')", "ENOENT", "EACCES"),
    row("truncate a foreign file", "os.truncate(victim_file, 0)", "ENOENT", "EACCES"),
    row("remove a foreign file", "os.unlink(victim_file)", "ENOENT", "EACCES"),
    row("rename a foreign file", "os.rename(victim_file, victim_file + 'x')", "ENOENT", "EACCES"),
    row("open a foreign file to all", "os.chmod(victim_file, 0o777)", "ENOENT", "EPERM"),
    row("change a foreign file's owner", "os.chown(victim_file, -1, -1)", "ENOENT", "EPERM"),
    row("change a foreign file's time", "os.utime(victim_file)", "ENOENT", "EPERM"),
    row("mark a foreign file", "os.setxattr(victim_file, 'user.x', b'')", "ENOENT", "EPERM"),
    row("write shared memory", "open('/dev/shm/x', 'w')", "EACCES"),
    row(
        "write scratch of others",
        "open(os.path.dirname(call_dir) + '/x', 'w')",
        "EACCES",
        modes="fork",
    ),
    row(
        "hard link to a setuid program",
        "os.link('/usr/bin/su', call_dir + '/su')",
        "EXDEV | EACCES | EPERM",
    ),
    row("write own directory", "open(call_dir + '/mine', 'w').write('x')", NOTHING),
]

NETWORK = [
    row(
        "TCP out",
        _SOCKET.format("", "k.connect(('192.0.2.1', 80))"),
        "ENETUNREACH",
        "EPERM",
    ),
    row(
        "UDP out",
        _SOCKET.format("type=s.SOCK_DGRAM", "k.sendto(b'x', ('192.0.2.1', 53))"),
        "ENETUNREACH",
        "EPERM",
    ),
    row(
        "IPv6 out",
        _SOCKET.format("s.AF_INET6", "k.connect(('2001:db8::1', 80))"),
        "ENETUNREACH | EADDRNOTAVAIL",
        "EPERM",
    ),
    row(
        "name lookup",
        "import socket\ntry: socket.getaddrinfo('example.org', 80)\n"
        "except socket.gaierror: result = 'no name'",
        "done: 'no name'",
    ),
    row(
        "metadata address",
        _SOCKET.format("", "k.connect(('169.254.169.254', 80))"),
        "ENETUNREACH",
        "EPERM",
    ),
    row(
        "loopback of the host",
        _SOCKET.format("", "k.connect(('127.0.0.1', port))"),
        "ECONNREFUSED",
        "EPERM",
    ),
    row(
        "abstract socket of the host",
        _SOCKET.format("s.AF_UNIX", "k.connect(chr(0) + abstract_name)"),
        "ECONNREFUSED",
        "EPERM",
    ),
    row(
        "path socket of the host",
        _SOCKET.format("s.AF_UNIX", "k.connect(socket_path)"),
        "ENOENT",
        "EPERM",
    ),
    row(
        "path socket through a datagram pair",
        "import socket as s; a, b = s.socketpair(type=s.SOCK_DGRAM); a.connect(datagram_path)",
        "ENOENT",
        "EPERM",
    ),
    row("vsock", "import socket; socket.socket(40, 1)", "EAFNOSUPPORT", "EPERM"),
    row("netlink", "import socket; socket.socket(16, 3)", "EAFNOSUPPORT", "EPERM"),
    row("packet", "import socket; socket.socket(17, 3)", "EAFNOSUPPORT", "EPERM"),
    row("kernel crypto", "import socket; socket.socket(38, 5)", "EAFNOSUPPORT", "EPERM"),
    row("raw", "import socket; socket.socket(2, 3, 1)", "EPERM"),
]

_REMOTE = "block = ctypes.create_string_buffer(64); at = ctypes.addressof(block)\n"
PROCESSES = [
    row("trace the parent", f"syscall({NUMBERS['ptrace']}, 16, os.getppid(), 0, 0)", "EPERM"),
    row("memory of the parent", "open(f'/proc/{os.getppid()}/mem', 'rb')", "EACCES"),
    row("environment of the parent", "open(f'/proc/{os.getppid()}/environ').read()", "EACCES"),
    row("descriptors of the parent", "os.readlink(f'/proc/{os.getppid()}/fd/0')", "EACCES"),
    row(
        "read the parent's memory",
        _REMOTE + "import struct; vec = struct.pack('PN', at, 64)\n"
        "v = ctypes.create_string_buffer(vec)\n"
        f"syscall({NUMBERS['process_vm_readv']}, os.getppid(), ctypes.addressof(v), 1, "
        "ctypes.addressof(v), 1, 0)",
        "EPERM",
    ),
    row(
        "steal a descriptor",
        f"syscall({NUMBERS['pidfd_getfd']}, os.pidfd_open(os.getppid()), 0, 0)",
        "EPERM",
    ),
    row("signal the parent", "os.kill(os.getppid(), 0)", "EPERM"),
    row("kill the parent", "os.kill(os.getppid(), 9)", "EPERM"),
    row("stop the parent", "os.kill(os.getppid(), 19)", "EPERM"),
    row("kill pid 1", "os.kill(1, 9)", "EPERM"),
    row("kill the node", "os.kill(node_pid, 9)", "ESRCH", "EPERM"),
    row(
        "kill everybody",
        "import time\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(20); os._exit(0)\n"
        "os.kill(-1, 9)\n"
        "result = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])",
        "done: -9",
        is_alone=True,
    ),
    row(
        "limits of the parent",
        "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (200, 200))",
        "EPERM | PermissionError",
    ),
    row("priority of the parent", "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)", "EPERM"),
    row("priority of a whole user", "os.setpriority(os.PRIO_USER, 0, 19)", "EPERM"),
    row(
        "disk priority of a whole group",
        f"syscall({NUMBERS['ioprio_set']}, 2, 0, 3 << 13)",
        "EPERM",
    ),
    row(
        "disk priority of the parent",
        f"syscall({NUMBERS['ioprio_set']}, 1, os.getppid(), 3 << 13)",
        "EPERM",
    ),
    row(
        "scheduler of the parent",
        "os.sched_setscheduler(os.getppid(), os.SCHED_BATCH, os.sched_param(0))",
        "EPERM",
    ),
    row(
        "leave the lowest priority",
        "os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))",
        "EPERM",
    ),
    row("negative nice", "os.setpriority(os.PRIO_PROCESS, 0, -5)", "EACCES | EPERM"),
    row(
        "raise a limit",
        "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (9999, 9999))",
        "EPERM | ValueError: not allowed to raise maximum limit",
    ),
]

_MACHINE_CODE = (
    "import mmap\n"
    "def action():\n"
    "    page = mmap.mmap(-1, 4096, prot=7); page.write(bytes.fromhex('{}'))\n"
    "    ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()\n"
    "result = in_child(action)"
)


def _denied(name: str, number: int, tier1: str) -> Attack:
    arguments = ARGUMENTS.get(name, "0, 0, 0, 0")
    return row(f"system call {name}", f"syscall({number}, {arguments})", tier1, "EPERM")


KERNEL = [
    *(_denied(name, number, "EPERM") for name, number in numbers_here(DENIED).items()),
    row("user namespace", f"syscall({NUMBERS['clone']}, 1 << 28, 0, 0) or os._exit(0)", "EPERM"),
    row("clone3", "syscall(435, 0, 0)", "ENOSYS"),
    row("memfd_create", "os.memfd_create('x')", "ENOSYS"),
    row("make a device", "os.mknod(call_dir + '/n', 0o020666, os.makedev(1, 1))", "EPERM"),
    row("type into the terminal", "import fcntl; fcntl.ioctl(2, 0x5412, b'x')", "EPERM"),
    row("become root", "os.setuid(0)", "EINVAL | EPERM"),
    row("regain privileges", "result = ctypes.CDLL(None).prctl(39, 0, 0, 0, 0)", "done: 1"),
    row(
        "capabilities",
        "text = open('/proc/self/status').read()\n"
        "result = [int(l.split()[1], 16) for l in text.splitlines() if l.startswith('Cap')]",
        "done: [0, 0, 0, 0, 0]",
        "EACCES",
    ),
]  # fmt: skip
if os.uname().machine == "x86_64":
    KERNEL += [
        row("x32 call", f"result = in_child(lambda: syscall({0x40000000 | 39}))", "done: 'SIGSYS'"),
        row(
            "32-bit call",
            _MACHINE_CODE.format("b814000000cd80c3"),
            "done: 'SIGSYS' | done: 'SIGSEGV'",
        ),
    ]

flood = partial(row, is_alone=True)
FLOODS = [
    flood(
        "fork bomb",
        "import errno, signal, time\n"
        "children = []\n"
        "try:\n"
        "    for _ in range(400):\n"
        "        child = os.fork()\n"
        "        if child == 0: signal.pause(); os._exit(0)\n"
        "        children.append(child)\n"
        "except BlockingIOError: result = 'EAGAIN'\n"
        "else: time.sleep(5)\n"
        "for child in children: os.kill(child, 9)\n"
        "for child in children: os.waitpid(child, 0)\n"
        "if len(children) > 100: result = len(children)",
        "done: 'EAGAIN'",
        # Without a user namespace the owner's programs count against the kernel's limit, so the
        # watchdog counts the tree; where the system hides what forks share, memory may come first.
        "done: 'EAGAIN' | stopped: processes | stopped: memory",
    ),
    flood(
        "thread bomb",
        "import threading\n"
        "gate = threading.Event(); threads = []\n"
        "try:\n"
        "    for _ in range(400):\n"
        "        thread = threading.Thread(target=gate.wait); thread.start()\n"
        "        threads.append(thread)\n"
        "except RuntimeError: result = 'refused'\n"
        "else: import time; time.sleep(5)\n"
        "gate.set()\n"
        "for thread in threads: thread.join()",
        "done: 'refused'",
        "done: 'refused' | stopped: processes",
    ),
    flood(
        "memory bomb",
        "blocks = []\n"
        "try:\n"
        "    for _ in range(44): blocks.append(bytearray(16 << 20))\n"
        "except MemoryError: result = len(blocks) <= 32\n"
        "blocks.clear()",
        "done: True",
    ),
    flood(
        "descriptor flood",
        "held = []\n"
        "try:\n"
        "    for _ in range(400): held.append(os.open('/dev/null', 0))\n"
        "finally:\n"
        "    for descriptor in held: os.close(descriptor)",
        "EMFILE",
    ),
    flood(
        "one huge file",
        "block = bytes(1 << 20)\n"
        "with open(call_dir + '/x', 'wb', buffering=0) as f:\n"
        "    for _ in range(80): assert f.write(block) == len(block), 'short'",
        "EFBIG | ENOSPC | AssertionError: short",
    ),
    flood(
        "many files",
        "block = bytes(20 << 20)\n"
        "for n in range(4):\n"
        "    with open(call_dir + f'/{n}', 'wb', buffering=0) as f:\n"
        "        assert f.write(block) == len(block), 'short'",
        "ENOSPC | AssertionError: short",
        # A directory of the host has no size of its own; only the number of calls bounds it.
        NOTHING,
    ),
]

TABLE = [*READ, *WRITE, *NETWORK, *PROCESSES, *KERNEL, *FLOODS]
TIER2_ONLY = [
    _denied(name, number, "-") for name, number in numbers_here(DENIED_WITHOUT_NAMESPACES).items()
]
assert len({attack.name for attack in [*TABLE, *TIER2_ONLY]}) == len(TABLE) + len(TIER2_ONLY)


def attacks(tier: str, mode: str) -> list[Attack]:
    table = [*TABLE, *TIER2_ONLY] if tier == "2" else TABLE
    return [attack for attack in table if mode in attack.modes]
