"""What a process that runs a stranger's code may do: compute, and read Python's own files; nothing else.

Limits of the operating system bound CPU time, memory, files and processes.  On Linux (x86-64, ARM64) the kernel then refuses
every system call that is not on a list (seccomp, no root needed): no new process or thread, no signal to another process, no
network, no writing to any file.  From Linux 5.13 on it also shuts out all files but Python's own, and other processes' memory
(Landlock).  Elsewhere Python itself refuses these (an audit hook), which code that works around Python
(ctypes, a fault of the interpreter) can evade.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from contextlib import suppress
from functools import lru_cache
from typing import Any

FILES = 64  # open at a time

# Names of system calls that computing and importing need -> their numbers on (x86_64, aarch64); -1: not there.
CALLS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, -1), "fstat": (5, 80), "lstat": (6, -1),
    "poll": (7, -1), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "access": (21, -1), "select": (23, -1),
    "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23), "nanosleep": (35, 101),
    "getpid": (39, 172), "exit": (60, 93), "uname": (63, 160), "getcwd": (79, 17),
    "readlink": (89, -1), "gettimeofday": (96, 169), "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153),
    "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173),
    "sigaltstack": (131, 132), "gettid": (186, 178), "time": (201, -1), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "restart_syscall": (219, 128), "fadvise64": (221, 223),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94),
    "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73),
    "set_robust_list": (273, 99), "getrandom": (318, 278), "statx": (332, 291), "rseq": (334, 293),
    "faccessat2": (439, 439),
}  # fmt: skip
OPENAT, CAPSET = (257, 56), (126, 91)
MACHINES = {
    "x86_64": (0, 0xC000003E),
    "aarch64": (1, 0xC00000B7),
}  # column of the above, number in the kernel's words
WRITES = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND

EVERY_ACCESS = 2**13 - 1  # to files, as Landlock counts
READ, LIST = 0b1100, 0b1000  # of a file and of a folder; of a folder
READABLE = (
    "/usr/lib",
    "/lib",
    "/lib64",
    "/usr/share/zoneinfo",
    "/etc/localtime",
    "/dev/null",
    "/dev/urandom",
)

REFUSED = ("socket.", "subprocess.", "ctypes.", "shutil.", "tempfile.", "os.fork", "os.exec", "os.posix_spawn", "os.spawn",
           "os.system", "os.kill", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod",
           "os.chown", "os.truncate", "os.utime", "os.putenv", "os.setxattr", "pty.", "signal.pthread_kill",
           "_thread.start_new_thread", "mmap.", "sqlite3.")  # fmt: skip


def limit(seconds: float, memory_mib: int) -> None:
    """Bound what this process uses.  It is killed, or its calls fail, where it goes beyond."""
    cpu = int(seconds) + 1
    bounds = {
        "RLIMIT_CPU": cpu, "RLIMIT_AS": memory_mib * 2**20, "RLIMIT_FSIZE": 0, "RLIMIT_NOFILE": FILES,
        "RLIMIT_NPROC": 0, "RLIMIT_CORE": 0,
    }  # fmt: skip
    for name, most in bounds.items():
        with suppress(ValueError, OSError, AttributeError):  # a system that has no such limit
            resource.setrlimit(getattr(resource, name), (most, most))


def prepare() -> list[int]:
    """What `confine` needs and can be made once, before processes are forked; descriptors to stay open for it."""
    if sys.platform == "linux":
        _libc()
        _filter()
    rules = _file_rules()
    return [] if rules is None else [rules]


def confine() -> str:
    """Let this process compute and read, and nothing else, from now on; "kernel" or "python", by who sees to it."""
    _shut_out_files()
    if _filter_calls():
        return "kernel"
    sys.addaudithook(_refuse)
    return "python"


def hide() -> None:
    """Keep other processes of this user from reading this one's memory (Linux)."""
    with suppress(OSError, AttributeError):
        _libc().prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


@lru_cache(1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@lru_cache(1)
def _file_rules() -> int | None:
    """A descriptor of the rules that let a process read Python's own files, and no others, nor another process's memory
    (Landlock, Linux 5.13); None where there is none."""
    if sys.platform != "linux":
        return None
    create, add = 444, 445
    rules: int = _libc().syscall(create, ctypes.byref(ctypes.c_uint64(EVERY_ACCESS)), ctypes.c_size_t(8), 0)
    if rules < 0:
        return None
    for place in {*sys.path, *READABLE}:
        with suppress(OSError):
            opened = os.open(place, os.O_PATH)
            access = READ if os.path.isdir(place) else READ & ~LIST
            rule = struct.pack("=Qi", access, opened)
            _libc().syscall(add, rules, 1, rule, 0)
            os.close(opened)
    return rules


def _shut_out_files() -> bool:
    """Put this process under the rules for files; whether the kernel can."""
    rules = _file_rules()
    if rules is None:
        return False
    restrict, no_new_privileges = 446, 38
    _libc().prctl(no_new_privileges, 1, 0, 0, 0)
    shut = _libc().syscall(restrict, rules, 0) == 0
    os.close(rules)
    return bool(shut)


def _filter_calls() -> bool:
    column, _ = MACHINES.get(platform.machine(), (-1, 0))
    if sys.platform != "linux" or column < 0:
        return False
    # Root gives up what only root may, such as reading another process's memory.
    _libc().syscall(CAPSET[column], (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    no_new_privileges, seccomp = 38, 22
    allowed = _libc().prctl(no_new_privileges, 1, 0, 0, 0) == 0
    return allowed and _libc().prctl(seccomp, 2, ctypes.byref(_filter())) == 0


class _Filter(ctypes.Structure):
    """A filter of system calls as the kernel takes it: how many steps, and where they are."""

    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


@lru_cache(1)
def _filter() -> _Filter:
    program = _program(*MACHINES.get(platform.machine(), (0, 0)))
    return _Filter(len(program) // 8, program)


def _program(column: int, machine: int) -> bytes:
    """A filter in the kernel's language (BPF): kill another machine's calls, allow CALLS, open to read only, refuse the rest."""

    def step(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    load, equal, all_below, any_bit, end = 0x20, 0x15, 0x35, 0x45, 0x06
    kill, allow, refuse = 0x80000000, 0x7FFF0000, 0x00050000 | errno.EPERM
    numbers = [call[column] for call in CALLS.values() if call[column] >= 0]
    steps = [
        step(load, 0, 0, 4), step(equal, 1, 0, machine), step(end, 0, 0, kill),
        step(load, 0, 0, 0), step(all_below, 0, 1, 0x40000000), step(end, 0, 0, kill),
        step(equal, 0, 3, OPENAT[column]),
        step(load, 0, 0, 32), step(any_bit, 0, 1, WRITES), step(end, 0, 0, refuse),
    ]  # fmt: skip
    # An open that only reads falls through to here with its flags loaded: load the number again, and let it be on the list.
    steps += [step(load, 0, 0, 0)]
    for number in [*numbers, OPENAT[column]]:
        steps += [step(equal, 0, 1, number), step(end, 0, 0, allow)]
    steps += [step(end, 0, 0, refuse)]
    return b"".join(steps)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    writes = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & WRITES)
    if writes or event.startswith(REFUSED):
        raise PermissionError(errno.EPERM, f"{event} is not allowed")
