"""A stack as each architecture prints it, in sample texts, with the frames from the decision on.

They follow show_stack() and its helpers of arch/*/kernel, and print_ip_sym() of kernel/kallsyms.c.
:data:`STACK_FORMATS` is the table of docs/kernels.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class StackFormat:
    """A stack between the line of the allocating task and the next part of the report."""

    architectures: str
    kernels: str
    text: str
    frames: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the lines of the sample."""
        return tuple(self.text.strip("\n").split("\n"))

    @property
    def decision_line(self) -> str:
        """Return the line of the decision."""
        return next(line.strip() for line in self.lines if f"{self.frames[0]}/" in line)


def format_table() -> str:
    """Return the table of the formats, each with one of its lines."""
    head = ["| architecture | kernels | a frame |", "| --- | --- | --- |"]
    rows = (
        f"| {each.architectures} | {each.kernels} | `{each.decision_line}` |"
        for each in STACK_FORMATS
    )
    return "\n".join([*head, *rows])


_FRAMES: Final = ("oom_kill_process+0x1a4", "out_of_memory+0x108", "do_fault+0x9c [zram]")

STACK_FORMATS: Final = (
    StackFormat(
        "x86",
        "4.10 and later",
        """
Call Trace:
 <TASK>
 dump_header+0x4a/0x211
 oom_kill_process+0x1a4/0x1c0
 ? mutex_lock+0xe/0x20
 out_of_memory+0x108/0x3c0
 do_fault+0x9c/0x100 [zram 0123456789abcdef0123456789abcdef01234567]
RIP: 0033:0x7f0000000000
 </TASK>
""",
        _FRAMES,
    ),
    StackFormat(
        "x86",
        "2.6.25 to 4.9",
        """
Call Trace:
 [<ffffffff816300fc>] dump_header+0x8e/0x214
 [<ffffffff8116cdde>] oom_kill_process+0x1a4/0x1c0
 [<ffffffff8116d654>] ? mutex_lock+0xe/0x20
 <EOI>  [<ffffffff8116d655>] out_of_memory+0x108/0x3c0
 [<ffffffffa0000123>] do_fault+0x9c/0x100 [zram]
""",
        _FRAMES,
    ),
    StackFormat(
        "x86",
        "2.6.18 to 2.6.24",
        """
Call Trace:
 [<ffffffff800c9c1c>] oom_kill_process+0x1a4/0x1c0
 [<ffffffff800c9d3a>] out_of_memory+0x108/0x3c0
 [<ffffffff88034e6a>] :zram:do_fault+0x9c/0x100
""",
        _FRAMES,
    ),
    StackFormat(
        "x86, 32 bits",
        "2.6.18 to 2.6.26",
        """
 [<c01408cb>] oom_kill_process+0x1a4/0x1c0
 [<c0141eca>] out_of_memory+0x108/0x3c0
 [<f8bb1322>] do_fault+0x9c/0x100 [zram]
 =======================
""",
        _FRAMES,
    ),
    StackFormat(
        "arm64",
        "4.15 and later",
        """
Call trace:
 show_stack+0x20/0x38 (C)
 dump_header+0x44/0x210
 oom_kill_process+0x1a4/0x1c0
 out_of_memory+0x108/0x3c0
 do_fault+0x9c/0x100 [zram] (P)
""",
        _FRAMES,
    ),
    StackFormat(
        "arm",
        "5.19 and later",
        """
Call trace:\x20
 dump_header from oom_kill_process+0x1a4/0x1c0
 oom_kill_process from out_of_memory+0x108/0x3c0
 out_of_memory from do_fault+0x9c/0x100 [zram]
 do_fault [zram] from 0xb6f00000
""",
        _FRAMES,
    ),
    StackFormat(
        "arm",
        "3.0 to 5.18",
        """
[<c0976220>] (dump_stack) from [<c033f134>] (dump_header+0x80/0x250)
[<c033f134>] (dump_header) from [<c033e4ac>] (oom_kill_process+0x1a4/0x1c0)
[<c033e4ac>] (oom_kill_process) from [<c033eddc>] (out_of_memory+0x108/0x3c0)
[<c033eddc>] (out_of_memory) from [<bf00009c>] (do_fault+0x9c/0x100 [zram])
""",
        _FRAMES,
    ),
    StackFormat(
        "arm",
        "2.6",
        """
Backtrace:\x20
[<c0976220>] (dump_header+0x0/0x250) from [<c033e4ac>] (oom_kill_process+0x1a4/0x1c0)
[<c033e4ac>] (oom_kill_process+0x0/0x1c0) from [<c033eddc>] (out_of_memory+0x108/0x3c0)
 r8:000201da r7:00000000 r6:00000000 r5:00000000
[<c033eddc>] (out_of_memory+0x0/0x3c0) from [<bf00009c>] (do_fault+0x9c/0x100 [zram])
""",
        _FRAMES,
    ),
    StackFormat(
        "powerpc",
        "2.6 and later",
        """
Call Trace:
[c0000003f4a7f920] [c00000000037a1bc] dump_header+0x80/0x2f0 (unreliable)
[c0000003f4a7f9b0] [c000000000379b5c] oom_kill_process+0x1a4/0x1c0
[c0000003f4a7f9f0] [c00000000037b034] out_of_memory+0x108/0x3c0
--- interrupt: 300 at 0x7fff8a2c0000
[c0000003f4a7fa90] [d00000000000009c] do_fault+0x9c/0x100 [zram]
""",
        _FRAMES,
    ),
    StackFormat(
        "powerpc",
        "of the first ELF ABI",
        """
Call Trace:
[c0000003f4a7f920] [c00000000037a1bc] .dump_header+0x80/0x2f0 (unreliable)
[c0000003f4a7f9b0] [c000000000379b5c] .oom_kill_process+0x1a4/0x1c0
[c0000003f4a7f9f0] [c00000000037b034] .out_of_memory+0x108/0x3c0
[c0000003f4a7fa90] [d00000000000009c] .do_fault+0x9c/0x100 [zram]
""",
        _FRAMES,
    ),
    StackFormat(
        "s390",
        "2.6 and later",
        """
Call Trace:
([<00000000001128f2>] show_stack+0x62/0x90)
 [<00000000002a8e3c>] dump_header+0x7c/0x220\x20
 [<00000000002a8410>] oom_kill_process+0x1a4/0x1c0\x20
 [<00000000002a9120>] out_of_memory+0x108/0x3c0\x20
 [<000003ff8000009c>] do_fault+0x9c/0x100 [zram]\x20
""",
        _FRAMES,
    ),
    StackFormat(
        "riscv, loongarch, mips",
        "2.6 and later",
        """
Call Trace:
[<ffffffff806d8c7e>] dump_header+0x5c/0x212
[<ffffffff801a0f5c>] oom_kill_process+0x1a4/0x1c0
[<ffffffff801a1828>] out_of_memory+0x108/0x3c0
[<ffffffff0000009c>] do_fault+0x9c/0x100 [zram]
""",
        _FRAMES,
    ),
    StackFormat(
        "sparc64",
        "2.6 and later",
        """
Call Trace:
 [0000000000c9a3a4] dump_header+0x50/0x1f4
 [0000000000603744] oom_kill_process+0x1a4/0x1c0
 [0000000000604488] out_of_memory+0x108/0x3c0
 [000000001000009c] do_fault+0x9c/0x100 [zram]
""",
        _FRAMES,
    ),
)
"""Frames with a question mark, or another sign that they are uncertain, are left out."""
