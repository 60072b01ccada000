"""Kernel headers that are generated from the kernel's type information.

All headers that `bpf/bcc/compat.h` and BCC include lead to two files. One has the structures
that are read, with these members only, each at its offset. The other has what every kernel header
defines.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.testlib.kernel.btf import Btf, Type
from tests.testlib.repository import REPOSITORY

_READ: Final = {
    "hlist_node": ("next", "pprev"),
    "ns_common": ("inum",),
    "pid_namespace": ("ns",),
    "nsproxy": ("mnt_ns",),
    "upid": ("nr", "ns"),
    "pid": ("level", "numbers"),
    "cred": ("uid", "gid"),
    "signal_struct": ("live", "oom_score_adj"),
    "percpu_counter": ("count",),
    "vfsmount": ("mnt_root",),
    "qstr": ("name",),
    "dentry": ("d_parent", "d_name"),
    "path": ("mnt", "dentry"),
    "file": ("f_path",),
    "mm_struct": ("total_vm", "exe_file", "pgtables_bytes", "arg_start", "arg_end", "rss_stat"),
    "kernfs_node": ("parent", "__parent", "name", "id"),
    "cgroup": ("kn",),
    "cgroup_subsys_state": ("cgroup",),
    "css_set": ("subsys",),
    "page_counter": ("usage", "max"),
    "mem_cgroup": ("css", "memory", "swap"),
    "oom_control": (
        *("memcg", "gfp_mask", "order", "totalpages", "chosen", "chosen_points"),
        "constraint",
    ),
    "task_struct": (
        *("pid", "tgid", "exit_code", "start_boottime", "comm", "group_leader", "real_parent"),
        *("thread_pid", "nsproxy", "signal", "mm", "real_cred", "cgroups"),
    ),
    "pt_regs": ("di", "si", "ax"),
}
"""The structures, each after those that it contains, with the members read on some kernel."""

_BASIC: Final = f"""#pragma once
typedef unsigned char u8, __u8;
typedef unsigned short u16, __u16, __be16;
typedef unsigned int u32, __u32, __be32, __wsum;
typedef unsigned long long u64, __u64;
typedef signed char s8, __s8;
typedef short s16, __s16;
typedef int s32, __s32;
typedef long long s64, __s64;
typedef __SIZE_TYPE__ size_t;
typedef __UINTPTR_TYPE__ uintptr_t;
typedef _Bool bool;
#define NULL ((void *)0)
#define offsetof(type, member) __builtin_offsetof(type, member)
#define __always_inline inline __attribute__((always_inline))
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#define PAGE_SIZE {os.sysconf("SC_PAGE_SIZE")}
#define SIGKILL {int(signal.SIGKILL)}
#define ENOENT {errno.ENOENT}
"""

_OF_BCC: Final = (
    *("linux/log2.h", "asm/page.h", "uapi/linux/bpf.h", "uapi/linux/if_ether.h"),
    *("uapi/linux/if_packet.h", "uapi/linux/in.h", "uapi/linux/in6.h", "uapi/linux/ip.h"),
    "uapi/linux/ptrace.h",
)
"""Further headers that BCC includes."""

_CONFIG: Final = """
#define CONFIG_BPF_SYSCALL 1
#define CONFIG_MEMCG 1
"""

_VERSION: Final = """
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(255, 0, 0)
"""


def write(folder: Path) -> None:
    """Make ``folder`` a tree that BCC_KERNEL_SOURCE can name.

    Raises:
        OSError: there is no bpftool.
        subprocess.CalledProcessError: the running kernel has no type information.
    """
    btf = Btf()
    own = (REPOSITORY / "bpf/bcc/compat.h").read_text(encoding="utf-8")
    files = {
        **dict.fromkeys(_OF_BCC, "#include <linux/types.h>"),
        **dict.fromkeys(re.findall(r"#include <(.+)>", own), "#include <btf.h>"),
        "linux/types.h": _BASIC,
        "btf.h": "\n".join(["#pragma once", "#include <linux/types.h>", *_structures(btf)]),
        "linux/bpf_common.h": Path("/usr/include/linux/bpf_common.h").read_text(encoding="ascii"),
        "linux/kconfig.h": _CONFIG,
        "linux/version.h": _VERSION,
        "generated/utsrelease.h": f'#define UTS_RELEASE "{os.uname().release}"',
        "trace/events/oom.h": _prototype(btf, "mark_victim"),
        "trace/events/sched.h": _prototype(btf, "sched_process_exit"),
    }
    for name, text in files.items():
        path = folder / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="ascii")


def _structures(btf: Btf) -> Iterator[str]:
    for value in ("MM_FILEPAGES", "memory_cgrp_id"):
        enum = btf.enum(value)
        values = ", ".join(f"{name} = {of['val']}" for name, of in enum.members)
        yield f"enum {enum.name} {{ {values} }};"
    yield from (f"struct {name};" for name in (*_READ, "mnt_namespace"))
    for name, members in _READ.items():
        structure = btf.named["STRUCT", name]
        yield f"struct {name} {{ {' '.join(_placed(btf, structure, members))} }}"
        yield "__attribute__((packed));"


def _placed(btf: Btf, structure: Type, wanted: tuple[str, ...]) -> Iterator[str]:
    """Yield the members, with padding between them."""
    end = 0
    for member in sorted(btf.members(structure), key=lambda it: it.offset):
        if member.name in wanted:
            if member.offset > end:
                yield f"char pad_{end}[{member.offset - end}];"
            yield f"{btf.declared(member.type, member.name)};"
            end = member.offset + btf.size(member.type)
    if int(structure.numbers["size"]) > end:
        yield f"char pad_{end}[{int(structure.numbers['size']) - end}];"


def _prototype(btf: Btf, tracepoint: str) -> str:
    """Return that part of a TRACE_EVENT of the kernel's own header that is read."""
    return f"TRACE_EVENT({tracepoint},\n\tTP_PROTO({', '.join(btf.passes(tracepoint))}),\n"
