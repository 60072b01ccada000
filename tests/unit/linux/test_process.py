"""The files of /proc/PID, by texts that a kernel wrote, and by those of this process."""

from __future__ import annotations

import os
import time
from pathlib import Path

from otel_oom.linux.process import (
    CgroupEntry,
    ProcessDir,
    memory_cgroup_path,
    parse_cgroups,
    parse_stat,
    parse_status,
)

STATUS = (
    "Name:\ta\\nb\\\\c\u2028d\nTgid:\t4711\nPid:\t4712\nPPid:\t1\nUid:\t5\t6\t7\t8\n"
    "Gid:\t9\t9\t9\t9\nNStgid:\t4711\t42\nVmRSS:\t     9 kB\nVmPTE:\t       4 kB\n"
    "VmSwap:\t       2 kB\nCapEff:\t000001ffffffffff\n"
)


def test_the_fields_of_status() -> None:
    status = parse_status(STATUS)
    assert status.comm == "a\nb\\c\u2028d"
    assert (status.tgid, status.ppid, status.namespaced_pid) == (4711, 1, 42)
    assert (status.uid, status.gid) == (5, 9)
    assert (status.resident, status.page_tables, status.swap) == (9 << 10, 4 << 10, 2 << 10)
    assert status.total_bytes == 15 << 10
    assert status.effective_capabilities == (1 << 41) - 1


def test_a_status_may_be_cut_anywhere() -> None:
    for end in range(len(STATUS)):
        assert parse_status(STATUS[:end]).total_bytes <= 15 << 10


def test_a_kernel_thread_has_no_memory() -> None:
    status = parse_status("Name:\tkthreadd\nTgid:\t2\nPPid:\t0\nUid:\t0\t0\t0\t0\n")
    assert (status.total_bytes, status.ppid, status.namespaced_pid) == (0, 0, None)


def test_the_fields_of_stat_behind_any_name() -> None:
    stat = parse_stat(f"7 (a) S 1 (b) Z 5 {'0 ' * 17}1234 {'0 ' * 29}9\n")
    assert stat
    assert (stat.comm, stat.state, stat.ppid) == ("a) S 1 (b", "Z", 5)
    assert (stat.start_ticks, stat.exit_code) == (1234, 9)
    assert parse_stat("7 (a") is None
    cut = parse_stat("7 (a) S 1 0")
    assert cut
    assert (cut.ppid, cut.start_ticks, cut.exit_code) == (1, None, None)


def test_a_tenant_names_no_line_into_its_cgroups() -> None:
    """A cgroup's name has no newline, and may have any other separator of lines."""
    path = "/a\r0::/b\x0b0::/c\x1c0::/d\u20280::/e:f"
    assert parse_cgroups(f"4:cpu,memory:{path}\n0::/x\n1") == [
        CgroupEntry("4", ("cpu", "memory"), path),
        CgroupEntry("0", (), "/x"),
    ]
    assert memory_cgroup_path(f"0::{path}\n") == path


def test_the_memory_cgroup_is_found_in_both_versions() -> None:
    """With the memory controller on v1, v2 has other cgroups."""
    assert memory_cgroup_path("0::/system.slice/a.service\n") == "/system.slice/a.service"
    assert memory_cgroup_path("4:cpu,memory:/a\n1:name=systemd:/b\n0::/c\n") == "/a"
    assert memory_cgroup_path("1:name=systemd:/b\n") is None


def test_this_process() -> None:
    process = ProcessDir(os.getpid())
    status, stat = process.read_status(), process.read_stat()
    assert status
    assert stat
    assert (status.tgid, status.ppid, status.uid) == (os.getpid(), os.getppid(), os.getuid())
    assert (stat.ppid, stat.comm) == (os.getppid(), status.comm)
    assert stat.start_boottime_ns
    assert 0 < stat.start_boottime_ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    score_adj = Path("/proc/self/oom_score_adj").read_text(encoding="ascii")
    assert process.read_number("oom_score_adj") == int(score_adj)
    assert process.read_executable() == str(Path("/proc/self/exe").readlink())
    assert process.namespace_inode("pid") == Path("/proc/self/ns/pid").stat().st_ino


def test_a_process_that_is_gone() -> None:
    gone = ProcessDir(2**22 + 1)
    assert (gone.read_status(), gone.read_stat(), gone.read_executable()) == (None, None, None)
    assert (gone.read_number("oom_score_adj"), gone.namespace_inode("pid")) == (None, None)
    assert gone.read_command_line() == [""]


def test_numbers_that_no_kernel_prints_are_none() -> None:
    status = parse_status(f"Tgid:\t{'9' * 5000}\nVmRSS:\t{'9' * 5000} kB\nCapEff:\tzz\n")
    assert (status.tgid, status.total_bytes, status.effective_capabilities) == (None, 0, 0)
