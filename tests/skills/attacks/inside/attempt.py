"""Runs one attack where it stands and says in one word what became of it.

Standard library only: this file runs inside the sandbox, as a skill's support module or alone.
"""

import ctypes
import errno
import os
import signal

_libc = ctypes.CDLL(None, use_errno=True)


def syscall(number, *arguments):
    """The raw call; a refusal is an OSError, as from Python's own wrappers."""
    result = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def in_child(action):
    """For what may kill the process that does it: the name of the signal, or the exit status."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:  # noqa: BLE001  whatever it is, this process ends here
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


def attempt(code, facts):
    """`ENOENT` and the like, an exception's name, or `done: <result>` if nothing stopped it."""
    names = {**facts, "syscall": syscall, "in_child": in_child, "os": os, "ctypes": ctypes}
    try:
        exec(code, names)
    except OSError as error:
        return errno.errorcode.get(error.errno, f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001  any refusal is an answer
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"done: {names.get('result')!r}"
