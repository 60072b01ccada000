"""The largest processes, compared with /proc itself and with a fake /proc."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.linux import procfs
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.process import ProcessDir
from otel_oom.model.types import Memcg, OomTask, TaskList
from otel_oom.snapshot import ProcessScanner, process_scanner
from tests.testlib.samples.events import KILL

ON_HOST = replace(KILL, decision=None, stack=(), memcg=None)
KB = 1024


def status_sizes(pid: int) -> dict[str, int]:
    """Return the sizes in a process's own status, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    return {name: int(kb) * KB for name, kb in re.findall(r"(?m)^(\w+):\s+(\d+) kB$", text)}


@contextmanager
def allocating_process(mib: int) -> Iterator[int]:
    """Run a process with that much memory; yield its pid."""
    program = f"held = b'x' * ({mib} << 20)\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.parametrize("swapped", [False, True])
def test_a_process_of_the_host(monkeypatch: pytest.MonkeyPatch, *, swapped: bool) -> None:
    """With the values of its own files; kernel threads have no memory."""
    # All of them, for there may be larger ones on this machine.
    monkeypatch.setattr(process_scanner, "MAX_OTHERS", 1 << 20)
    with allocating_process(64) as pid:
        tasks = ProcessScanner(CgroupMount.find()).scan(ON_HOST, swapped=swapped)
        assert tasks is not None
        (one,) = (candidate for candidate in tasks.largest if candidate.tgid == pid)
        assert abs(one.resident - status_sizes(pid)["VmRSS"]) < 1 << 20
        assert one.page_tables == status_sizes(pid)["VmPTE"]
        assert one.comm == Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
        assert one.uid == os.getuid()
        score = Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii")
        assert one.score_adj == int(score)
        assert f":{one.memcg}\n" in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    held = [candidate.total_bytes for candidate in tasks.largest]
    assert held == sorted(held, reverse=True)
    assert all(candidate.resident for candidate in tasks.largest)
    assert (tasks.memcg, tasks.skipped) == (None, 0)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of the initial PID namespace without processes."""
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/pid").symlink_to("/proc/self/ns/pid")
    return tmp_path / "proc"


def add_process(proc: Path, pid: int, kb: int, *, swap: int = 0, name: str = "x") -> None:
    """Add a process with that much resident memory and swap."""
    folder = proc / str(pid)
    folder.mkdir()
    data = (kb + swap) // 4
    (folder / "statm").write_text(f"9999999 {kb // 4} 0 0 0 {data} 0\n", encoding="ascii")
    memory = f"VmRSS:\t{kb:8} kB\nVmPTE:\t       4 kB\nVmSwap:\t{swap:8} kB\n" if kb else ""
    (folder / "status").write_text(f"Name:\t{name}\nUid:\t5\t6\t7\t8\n{memory}", encoding="ascii")
    (folder / "cgroup").write_text("4:memory:/v1\n0::/v2\n", encoding="ascii")
    (folder / "oom_score_adj").write_text("-17\n", encoding="ascii")


def test_only_processes_below_the_limit_are_scanned(proc: Path, tmp_path: Path) -> None:
    """In the cgroup whose limit was hit and in those below, on both versions."""
    for pid in range(1, 5):
        add_process(proc, pid, 1000 * pid)
    for path, pids in (("a", "1\n"), ("a/b", "2\n4\n"), ("c", "3\n")):
        (tmp_path / "cgroup" / path).mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / path / "cgroup.procs").write_text(pids, encoding="ascii")
    assert KILL.decision is not None
    hit = replace(KILL, decision=replace(KILL.decision, memcg=Memcg(None, "/a")))
    for v1 in (True, False):
        for pid in range(1, 5):
            controller = "memory" if v1 else "cpu"
            text = f"4:{controller}:/v1\n0::/v2\n"
            (proc / str(pid) / "cgroup").write_text(text, encoding="ascii")
        tasks = ProcessScanner(CgroupMount(tmp_path / "cgroup", "/", v1=v1), proc).scan(
            hit, swapped=False
        )
        assert tasks is not None
        assert [one.tgid for one in tasks.largest] == [4, 2, 1]
        assert {one.memcg for one in tasks.largest} == {"/v1" if v1 else "/v2"}
        assert {(one.uid, one.score_adj) for one in tasks.largest} == {(5, -17)}
        assert (tasks.memcg, tasks.count) == ("/a", 3)


def test_a_process_that_exits_meanwhile_is_in_the_cgroup_that_lists_it(
    proc: Path, tmp_path: Path
) -> None:
    """On cgroup v1 it is in the root by then; a reaped one has no file."""
    folder = tmp_path / "cgroup/a/b"
    folder.mkdir(parents=True)
    (folder.parent / "cgroup.procs").write_text("1\n", encoding="ascii")
    (folder / "cgroup.procs").write_text("2\n", encoding="ascii")
    for pid in (1, 2):
        add_process(proc, pid, 1000 * pid)
    (proc / "1/cgroup").write_text("4:memory:/\n", encoding="ascii")
    (proc / "2/cgroup").unlink(missing_ok=True)
    assert KILL.decision is not None
    hit = replace(KILL, decision=replace(KILL.decision, memcg=Memcg(None, "/a")))
    cgroups = CgroupMount(tmp_path / "cgroup", "/", v1=True)
    tasks = ProcessScanner(cgroups, proc).scan(hit, swapped=False)
    assert tasks is not None
    assert [(one.tgid, one.memcg) for one in tasks.largest] == [(2, "/a/b"), (1, "/a")]


def test_swap_counts_if_it_is_in_use(proc: Path) -> None:
    add_process(proc, 5, 8, swap=900_000, name=r"a\nb\\c")
    for pid in range(1000, 1200):
        add_process(proc, pid, 1000)
    # What may be in swap is no more than a bound: this one has nothing there.
    (proc / "1000/statm").write_text("9999999 250 0 0 0 8888888 0\n", encoding="ascii")
    for swapped in (True, False):
        tasks = ProcessScanner(None, proc).scan(ON_HOST, swapped=swapped)
        assert tasks is not None
        assert (tasks.largest[0].tgid == 5) is swapped
        assert tasks.count == 201
        assert len(tasks.largest) == process_scanner.MAX_OTHERS + 1
    tasks = ProcessScanner(None, proc).scan(ON_HOST, swapped=True)
    assert tasks is not None
    assert tasks.largest[0].comm == "a\nb\\c"


def test_kernel_threads_are_skipped(proc: Path) -> None:
    """Not so a program that the kernel itself has run, if it is large.

    Both are children of kthreadd, and a thread's id can be such a program's later."""
    for pid in (2, 3, 4):
        add_process(proc, pid, 0)
    add_process(proc, 5, 4000)
    children = proc / "2/task/2/children"
    children.parent.mkdir(parents=True)
    children.write_text("3 4 ", encoding="ascii")
    scanner = ProcessScanner(None, proc)
    children.write_text("3 6 ", encoding="ascii")
    add_process(proc, 6, 8000)
    (proc / "3/statm").write_text("9 9 9 9 9 9 9\n", encoding="ascii")
    (proc / "3/status").write_text("Name:\tx\nVmRSS:\t       9 kB\n", encoding="ascii")
    tasks = scanner.scan(ON_HOST, swapped=False)
    assert tasks is not None
    assert [one.tgid for one in tasks.largest] == [6, 5]
    # kthreadd itself, one that is no child of it any more, and the two in the list.
    assert tasks.count == 4


def test_kills_of_a_storm_share_a_scan(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_process(proc, 5, 4000)
    scanner = ProcessScanner(None, proc)
    first = scanner.scan(ON_HOST, swapped=False)
    add_process(proc, 6, 8000)
    assert scanner.scan(ON_HOST, swapped=False) is first
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    second = scanner.scan(ON_HOST, swapped=False)
    assert first is not None
    assert second is not None
    assert [one.tgid for one in second.largest] == [6, 5]
    assert second.boottime_ns > first.boottime_ns


def test_a_scan_has_a_time_limit(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in range(1, 11):
        add_process(proc, pid, 1000)
    clock = iter(range(100))
    # Each look at the clock is a fortieth of a second later: the limit is a tenth.
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 40)
    tasks = ProcessScanner(None, proc).scan(ON_HOST, swapped=False)
    assert tasks is not None
    assert tasks.count == len(tasks.largest) == 4
    assert tasks.skipped == 6


def test_a_long_list_of_processes_leaves_time_to_read_them(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a host with 50,000, the list alone takes as long as the scan may. It ends early."""
    for pid in range(1, 401):
        add_process(proc, pid, 1000)
    now = 0.0
    opened = os.scandir

    def scandir(folder: Path) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        return nullcontext(slow_entries(folder))

    def slow_entries(folder: Path) -> Iterator[os.DirEntry[str]]:
        nonlocal now
        with opened(folder) as entries:
            for entry in entries:
                now += 0.001
                yield entry

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    tasks = ProcessScanner(None, proc).scan(ON_HOST, swapped=False)
    assert tasks is not None
    assert 0 < tasks.count < 400
    assert len(tasks.largest) == process_scanner.MAX_OTHERS + 1
    assert tasks.skipped


def test_processes_of_another_namespace_are_not_scanned(tmp_path: Path) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").write_text("", encoding="ascii")
    add_process(tmp_path, 5, 4000)
    assert ProcessScanner(None, tmp_path).scan(ON_HOST, swapped=False) is None


def test_a_process_that_ends_meanwhile_is_left_out(proc: Path) -> None:
    add_process(proc, 5, 4000)
    (proc / "6").mkdir()
    add_process(proc, 7, 0)
    tasks = ProcessScanner(None, proc).scan(ON_HOST, swapped=False)
    assert tasks is not None
    assert [one.tgid for one in tasks.largest] == [5]


def test_the_kernels_table_has_precedence(proc: Path) -> None:
    """It is of the moment of the decision; its tasks get the cgroups that they have now.

    But for the victim, whose cgroup is in the kernel's record, and for another process that has
    the pid by now.
    """
    pids = (7, 8, 9, 4711)
    tasks = tuple(OomTask(pid, "x", pid << 20, 0, 0) for pid in pids)
    for pid, name in ((7, "x"), (8, "other"), (4711, "x")):
        add_process(proc, pid, 1000)
        (proc / f"{pid}/cgroup").write_text("0::/a\n", encoding="ascii")
        (proc / f"{pid}/comm").write_text(f"{name}\n", encoding="ascii")
    kill = replace(ON_HOST, tasks=TaskList("/a", 0, 4, 0, tasks), memcg=Memcg(1, "/b"))
    assert kill.victim.tgid == pids[-1]
    listed = ProcessScanner(None, proc).add_tasks(kill, swapped=False).tasks
    assert listed
    assert [task.memcg for task in listed.largest] == ["/a", None, None, "/b"]


def test_the_victim_is_not_scanned(proc: Path) -> None:
    """Reading its size could delay the release of its memory, and cost its parent's life."""
    add_process(proc, 5, 4000)
    add_process(proc, KILL.victim.tgid or 0, 9000)
    tasks = ProcessScanner(None, proc).scan(ON_HOST, swapped=False)
    assert tasks
    assert [one.tgid for one in tasks.largest] == [5]


def test_very_many_cgroups_hold_up_no_kill(
    proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant with its own subtree makes as many as it likes: the walk has its own limit."""
    add_process(proc, 1, 1000)
    for number in range(300):
        folder = tmp_path / f"cgroup/a/{number}"
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").write_text("1\n" if number == 0 else "", encoding="ascii")
    (tmp_path / "cgroup/a/cgroup.procs").write_text("1\n", encoding="ascii")
    now, reads = itertools.count(), []
    read_lines = procfs.read_lines

    def read_and_count(path: str, max_bytes: int) -> list[str]:
        reads.append(path)
        return read_lines(path, max_bytes)

    monkeypatch.setattr(procfs, "read_lines", read_and_count)
    # Each reading of the clock is a millisecond later.
    monkeypatch.setattr(time, "monotonic", lambda: next(now) / 1000)
    assert KILL.decision is not None
    hit = replace(KILL, decision=replace(KILL.decision, memcg=Memcg(None, "/a")))
    scanner = ProcessScanner(CgroupMount(tmp_path / "cgroup", "/", v1=False), proc)
    tasks = scanner.scan(hit, swapped=False)
    assert tasks is not None
    assert len(reads) < 100
    assert tasks.skipped
    assert {task.tgid for task in tasks.largest} == {1}


def test_processes_that_end_meanwhile_hold_up_no_kill(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them is among the largest, so none is the last one to read."""
    for pid in range(1, 201):
        add_process(proc, pid, 1000)
        (proc / str(pid) / "status").unlink()
    now, reads = itertools.count(), itertools.count()
    monkeypatch.setattr(ProcessDir, "read_status", lambda _: next(reads) * 0 or None)
    monkeypatch.setattr(process_scanner, "_LIMIT_S", 0.25)
    monkeypatch.setattr(process_scanner, "_READ_LIMIT_S", 0.05)
    monkeypatch.setattr(time, "monotonic", lambda: next(now) / 1000)
    tasks = ProcessScanner(None, proc).scan(ON_HOST, swapped=False)
    assert tasks is not None
    assert (tasks.count, tasks.largest) == (200, ())
    assert next(reads) < 110
