"""The log of a kernel that panics out of memory, as its persistent store keeps it."""

from __future__ import annotations

import os
from pathlib import Path

from otel_oom.capture.panic.previous_boot import PreviousBoot
from otel_oom.linux.kernel_log.line_types import Line
from tests.testlib.samples.log_lines import REPORT

COMPULSORY = "Out of memory: compulsory panic_on_oom is enabled"
SYSTEM_WIDE = "Out of memory: system-wide panic_on_oom is enabled"
DEADLOCK = "System is deadlocked on memory"

UNIX_OFFSET_NS = 1_699_999_499_000_000_000
"""From the log's clock to Unix time: BEGIN_NS is a second before STORED_NS."""

BOOT_ID = "f0e1d2c3-0000-4000-8000-000000000009"
BEGIN_NS = 500_000_000_000
STEP_NS = 1_000_000
STORED_NS = 1_700_000_000_000_000_000

MEMCG_REPORT = REPORT[:-1]
"""The report of a cgroup, up to the line that a panic replaces."""

HOST_REPORT = [
    line for line in MEMCG_REPORT if ": usage " not in line and not line.startswith("Memory cgroup")
]
HOST_REPORT = [
    line.replace("mem_cgroup_out_of_memory+0xc0/0x110", "__alloc_pages_slowpath+0xdb3/0xe90")
    for line in HOST_REPORT
]


def panic_lines(message: str) -> list[str]:
    """Return the lines of a panic, by the thread of the reports."""
    return [
        f"Kernel panic - not syncing: {message}",
        "CPU: 1 UID: 0 PID: 5356 Comm: tail Not tainted 6.18.44 #1 PREEMPT(none) ",
        "Call Trace:",
        " <TASK>",
        " dump_stack_lvl+0x57/0x80",
        " vpanic+0x11a/0x2d0",
        " panic+0x58/0x60",
        " out_of_memory.cold+0x5f/0x7e",
        " __alloc_pages_slowpath+0xdb3/0xe90",
        " do_anonymous_page+0xf8/0x8d0",
        " asm_exc_page_fault+0x22/0x30",
        "RIP: 0010:read_zero+0x77/0xd0",
        " </TASK>",
        "Kernel Offset: 0x1a000000 from 0xffffffff81000000",
    ]


def pstore_lines(texts: list[str], begin_ns: int = BEGIN_NS, *, prefix: str = "") -> list[bytes]:
    """Return lines as a record has them, a millisecond apart; ``prefix`` is a caller's."""
    return [
        b"<4>[%5d.%06d]%s %s" % (*divmod(ns // 1000, 10**6), prefix.encode(), text.encode())
        for ns, text in ((begin_ns + index * STEP_NS, text) for index, text in enumerate(texts))
    ]


def write_pstore_records(
    folder: Path,
    lines: list[bytes],
    *,
    parts: int = 1,
    number: int = 7_000_000_000,
    unix_ns: int = STORED_NS,
) -> list[Path]:
    """Write a record in parts, with the end of the log first, as the kernel does."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    size = -(-len(lines) // parts)
    for part in range(1, parts + 1):
        end = len(lines) - (part - 1) * size
        piece = b"\n".join(lines[max(0, end - size) : end])
        path = folder / f"dmesg-erst-{number + part}"
        path.write_bytes(b"Panic#1 Part%d\n%s\n" % (part, piece))
        os.utime(path, ns=(unix_ns, unix_ns))
        paths.append(path)
    return paths


def journal_of_previous_boot(texts: list[str], begin_ns: int = BEGIN_NS) -> PreviousBoot:
    """Return the same lines as the journal has them: in microseconds, without trailing spaces."""
    lines = [
        Line(text.rstrip(), begin_ns + index * STEP_NS, index) for index, text in enumerate(texts)
    ]
    return PreviousBoot(BOOT_ID, tuple(lines), UNIX_OFFSET_NS)
