"""Who used the memory, held against /proc itself and against a /proc made by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.model.types import Memcg, OomTask, TaskList
from otel_oom.snapshot import ProcessScanner, process_scanner
from tests.testlib.samples.events import KILL

ON_HOST = replace(KILL, decision=None, stack=(), memcg=None)
KB = 1024


def status(pid: int) -> dict[str, int]:
    """The sizes of a process that it shows itself, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    return {name: int(kb) * KB for name, kb in re.findall(r"(?m)^(\w+):\s+(\d+) kB$", text)}


@contextmanager
def holding(mib: int) -> Iterator[int]:
    """A process that holds so much memory; its pid."""
    program = f"held = b'x' * ({mib} << 20)\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.parametrize("swapped", [False, True])
def test_a_process_of_the_host_is_seen(monkeypatch: pytest.MonkeyPatch, *, swapped: bool) -> None:
    """With what its own files say of it; the kernel's threads have no memory and are not told."""
    # All of them, for there may be larger ones on this machine.
    monkeypatch.setattr(process_scanner, "MAX_OTHERS", 1 << 20)
    with holding(64) as pid:
        found = ProcessScanner(CgroupMount.find()).scan(ON_HOST, swapped=swapped)
        assert found is not None
        (one,) = (candidate for candidate in found.largest if candidate.tgid == pid)
        assert abs(one.resident - status(pid)["VmRSS"]) < 1 << 20
        assert one.page_tables == status(pid)["VmPTE"]
        assert one.comm == Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
        assert one.uid == os.getuid()
        score = Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii")
        assert one.score_adj == int(score)
        assert f":{one.memcg}\n" in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    held = [candidate.total_bytes for candidate in found.largest]
    assert held == sorted(held, reverse=True)
    assert all(candidate.resident for candidate in found.largest)
    assert (found.memcg, found.skipped) == (None, 0)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of the first PID namespace without processes."""
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/pid").symlink_to("/proc/self/ns/pid")
    return tmp_path / "proc"


def put(proc: Path, pid: int, kb: int, *, swap: int = 0, name: str = "x") -> None:
    """A process with so much resident memory and swap."""
    folder = proc / str(pid)
    folder.mkdir()
    data = (kb + swap) // 4
    (folder / "statm").write_text(f"9999999 {kb // 4} 0 0 0 {data} 0\n", encoding="ascii")
    memory = f"VmRSS:\t{kb:8} kB\nVmPTE:\t       4 kB\nVmSwap:\t{swap:8} kB\n" if kb else ""
    (folder / "status").write_text(f"Name:\t{name}\nUid:\t5\t6\t7\t8\n{memory}", encoding="ascii")
    (folder / "cgroup").write_text("4:memory:/v1\n0::/v2\n", encoding="ascii")
    (folder / "oom_score_adj").write_text("-17\n", encoding="ascii")


def test_only_the_processes_below_the_limit_are_looked_at(proc: Path, tmp_path: Path) -> None:
    """Those of the cgroup whose limit was hit and of the cgroups in it, on both versions."""
    for pid in range(1, 5):
        put(proc, pid, 1000 * pid)
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
        found = ProcessScanner(CgroupMount(tmp_path / "cgroup", "/", v1=v1), proc).scan(
            hit, swapped=False
        )
        assert found is not None
        assert [one.tgid for one in found.largest] == [4, 2, 1]
        assert {one.memcg for one in found.largest} == {"/v1" if v1 else "/v2"}
        assert {(one.uid, one.score_adj) for one in found.largest} == {(5, -17)}
        assert (found.memcg, found.count) == ("/a", 3)


def test_what_is_in_swap_counts_where_there_is_any(proc: Path) -> None:
    """Of many processes, one that was swapped out is found as the largest if swap is in use."""
    put(proc, 5, 8, swap=900_000, name=r"a\nb\\c")
    for pid in range(1000, 1200):
        put(proc, pid, 1000)
    # What may be in swap is no more than a bound: this one has nothing there.
    (proc / "1000/statm").write_text("9999999 250 0 0 0 8888888 0\n", encoding="ascii")
    for swapped in (True, False):
        found = ProcessScanner(None, proc).scan(ON_HOST, swapped=swapped)
        assert found is not None
        assert (found.largest[0].tgid == 5) is swapped
        assert found.count == 201
        assert len(found.largest) == process_scanner.MAX_OTHERS + 1
    found = ProcessScanner(None, proc).scan(ON_HOST, swapped=True)
    assert found is not None
    assert found.largest[0].comm == "a\nb\\c"


def test_the_kernels_threads_are_passed_over(proc: Path) -> None:
    """Neither opened nor counted; a program that the kernel itself has run is told if it is large.

    Both are children of kthreadd, and a thread's number can be such a program's later.
    """
    for pid in (2, 3, 4):
        put(proc, pid, 0)
    put(proc, 5, 4000)
    children = proc / "2/task/2/children"
    children.parent.mkdir(parents=True)
    children.write_text("3 4 ", encoding="ascii")
    looking = ProcessScanner(None, proc)
    children.write_text("3 6 ", encoding="ascii")
    put(proc, 6, 8000)
    (proc / "3/statm").write_text("9 9 9 9 9 9 9\n", encoding="ascii")
    (proc / "3/status").write_text("Name:\tx\nVmRSS:\t       9 kB\n", encoding="ascii")
    found = looking.scan(ON_HOST, swapped=False)
    assert found is not None
    assert [one.tgid for one in found.largest] == [6, 5]
    # kthreadd itself, one that is no child of it any more, and the two that were told.
    assert found.count == 4


def test_kills_of_a_storm_share_what_was_seen(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a while nothing is looked at again, and what is told is of then; later it is."""
    put(proc, 5, 4000)
    looking = ProcessScanner(None, proc)
    first = looking.scan(ON_HOST, swapped=False)
    put(proc, 6, 8000)
    assert looking.scan(ON_HOST, swapped=False) is first
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    second = looking.scan(ON_HOST, swapped=False)
    assert first is not None
    assert second is not None
    assert [one.tgid for one in second.largest] == [6, 5]
    assert second.boottime_ns > first.boottime_ns


def test_looking_has_an_end(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time is over, what was not looked at is told as such."""
    for pid in range(1, 11):
        put(proc, pid, 1000)
    clock = iter(range(100))
    # Each look at the clock is a fortieth of a second later: the limit is a tenth.
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 40)
    found = ProcessScanner(None, proc).scan(ON_HOST, swapped=False)
    assert found is not None
    assert found.count == len(found.largest) == 4
    assert found.skipped == 6


def test_processes_of_another_namespace_are_not_told(tmp_path: Path) -> None:
    """Where /proc is not the first PID namespace's, it does not show what the kernel weighed."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").write_text("", encoding="ascii")
    put(tmp_path, 5, 4000)
    assert ProcessScanner(None, tmp_path).scan(ON_HOST, swapped=False) is None


def test_a_process_that_goes_meanwhile_is_left_out(proc: Path) -> None:
    """Nothing of it can be read any more, and it does not keep the others from being told."""
    put(proc, 5, 4000)
    (proc / "6").mkdir()
    put(proc, 7, 0)
    found = ProcessScanner(None, proc).scan(ON_HOST, swapped=False)
    assert found is not None
    assert [one.tgid for one in found.largest] == [5]


def test_the_kernels_table_has_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of the moment of the decision; its tasks get their cgroups from the scan."""
    first, second = (OomTask(pid, "x", pid << 20, 0, 0) for pid in (8, 9))
    listed = TaskList("/a", 0, 2, 0, (second, first))
    scanned = TaskList("/a", 1, 2, 0, (replace(first, resident=1, memcg="/a"),))
    scanner = ProcessScanner(None)
    kill = replace(KILL, tasks=listed)
    monkeypatch.setattr(ProcessScanner, "scan", lambda *_, **__: scanned)
    merged = replace(listed, largest=(second, replace(first, memcg="/a")))
    assert scanner.add_tasks(kill, swapped=False).tasks == merged
    assert scanner.add_tasks(replace(KILL, tasks=None), swapped=False).tasks == scanned
    monkeypatch.setattr(ProcessScanner, "scan", lambda *_, **__: None)
    assert scanner.add_tasks(kill, swapped=False).tasks == listed
