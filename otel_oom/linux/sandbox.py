"""Give up rights for good: for a process that works on what others wrote.

Imports little: such a process is started for each piece of work.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from contextlib import suppress
from typing import Final

_NOBODY: Final = 65534
_MAX_INT32: Final = (1 << 31) - 1

# include/uapi/linux/prctl.h, capability.h, seccomp.h, audit.h
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_SECCOMP_MODE_FILTER: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_SIGKILL: Final = 9

_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_NUMBER_OFFSET, _ARCH_OFFSET = 0, 4  # struct seccomp_data
_ALLOW, _DENY = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with EPERM

_ALLOWED: Final = {
    # By machine: AUDIT_ARCH_*, and the numbers of write, close, mmap, munmap, brk, rt_sigreturn,
    # pread64, mremap, madvise, exit, exit_group, futex, clock_gettime, getrandom.
    "x86_64": (0xC000003E, (1, 3, 9, 11, 12, 15, 17, 25, 28, 60, 231, 202, 228, 318)),
    "aarch64": (0xC00000B7, (64, 57, 222, 215, 214, 139, 67, 216, 233, 93, 94, 98, 113, 278)),
}


def limit_resources(memory_bytes: int, cpu_s: int, open_files: int) -> None:
    """Bound what this process can use; it can write to no file, and start no process.

    ``memory_bytes`` of address space are in addition to what is mapped now, which can be a large
    file of locales. For an OOM kill the kernel prefers this process to all others.
    """
    with suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:  # noqa: PTH123  pathlib takes long to import
        file.write(b"1000")
    for limit, value in (
        (resource.RLIMIT_AS, _mapped_bytes() + memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, present = resource.getrlimit(limit)
        bound = value if present == resource.RLIM_INFINITY else min(value, present)
        resource.setrlimit(limit, (bound, bound))


def _mapped_bytes() -> int:
    with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123  as above
        return int(file.read().split()[0]) * resource.getpagesize()


def drop_privileges() -> None:
    """Become nobody without capabilities, as far as this process may; end it with its parent.

    Without the capability for another uid only the other rights go. No program that it could
    execute gives it any (no_new_privs).
    """
    with suppress(PermissionError):
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable, 64 bits of each; without them no ambient one is left.
    _require(_libc().capset(header, bytes(24)))
    _require(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    # A change of uid has reset it.
    _require(_libc().prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0))


def deny_system_calls() -> bool:
    """Allow memory, pread(2) and write(2) of what is open, and the end: all else is EPERM.

    False where this kernel or this machine has no such filter.
    """
    arch, numbers = _ALLOWED.get(os.uname().machine, (0, ()))
    is_compatible = sys.maxsize <= _MAX_INT32  # a process of 32 bits has other numbers
    if not arch or is_compatible:
        return False
    count = len(numbers)
    instructions = [
        (_LOAD_WORD, 0, 0, _ARCH_OFFSET),
        # A jump is relative to the next instruction; the last two are deny and allow.
        (_JUMP_EQUAL, 0, count + 1, arch),
        (_LOAD_WORD, 0, 0, _NUMBER_OFFSET),
        *((_JUMP_EQUAL, count - index, 0, number) for index, number in enumerate(numbers)),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))
    return bool(
        _libc().prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), program, 0, 0) == 0
    )


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _require(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
