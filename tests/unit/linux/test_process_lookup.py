"""Processes of threads, in this kernel's /proc and in one made by hand."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from msgspec.structs import replace

from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.types import Memcg, Task
from tests.testlib.require import require
from tests.testlib.samples.events import KILL

SECOND = 10**9


def test_process_of_a_thread_is_found_by_id_and_name() -> None:
    comm = b"x) a\n\xff\\"
    ids: list[int] = []
    done = threading.Event()

    def run() -> None:
        Path("/proc/thread-self/comm").write_bytes(comm)
        ids.append(threading.get_native_id())
        done.wait(30)

    thread = threading.Thread(target=run)
    thread.start()
    while not ids:
        time.sleep(0.001)
    processes = ProcessLookup()
    try:
        found = processes.by_thread(ids[0], "x) a\n\\xff\\")
        other = processes.by_thread(ids[0], "python")
    finally:
        done.set()
        thread.join()
    assert other is None
    if not processes.usable:
        assert found is None
        return
    assert found is not None
    assert (found.tgid, found.namespaced_pid, found.ppid) == (
        os.getpid(),
        os.getpid(),
        os.getppid(),
    )
    assert (found.uid, found.gid) == (os.getuid(), os.getgid())
    assert found.pid_ns == Path("/proc/self/ns/pid").stat().st_ino
    assert found.mnt_ns == Path("/proc/self/ns/mnt").stat().st_ino
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    assert found.start_boottime_ns == int(ticks) * SECOND // os.sysconf("SC_CLK_TCK")


def test_proc_of_another_pid_namespace_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").touch()
    (tmp_path / "1").mkdir()
    (tmp_path / "1/status").write_text("Name:\tinit\nTgid:\t1\n")
    assert ProcessLookup(tmp_path).by_thread(1, "init") is None


def test_thread_that_is_being_released_has_no_process(tmp_path: Path) -> None:
    """For an instant /proc has it as one of the process 0 (task_state(), array.c)."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("/proc/self/ns/pid")
    require(ProcessLookup().usable, "/proc counts in another PID namespace than the kernel's log")
    (tmp_path / "5356").mkdir()
    status = tmp_path / "5356" / "status"
    status.write_text("Name:\ttail\nTgid:\t5300\nPPid:\t12\n", encoding="ascii")
    assert ProcessLookup(tmp_path).by_thread(5356, "tail")
    status.write_text("Name:\ttail\nTgid:\t5300\nPPid:\t0\nNStgid:\t0\n", encoding="ascii")
    assert ProcessLookup(tmp_path).by_thread(5356, "tail") == Task(5300, 5356, comm="tail")
    status.write_text("Name:\ttail\nTgid:\t0\nPPid:\t0\n", encoding="ascii")
    assert ProcessLookup(tmp_path).by_thread(5356, "tail") is None


def make_living_process(proc: Path, cgroup: str) -> Path:
    """Make the files of this process, of which those that refer to memory can't be read."""
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/pid").symlink_to("/proc/self/ns/pid")
    folder = proc / str(os.getpid())
    (folder / "task" / str(os.getpid())).mkdir(parents=True)
    (folder / "comm").write_text("tail\n", encoding="ascii")
    (folder / "cgroup").write_text(f"0::{cgroup}\n", encoding="ascii")
    (folder / "exe").symlink_to("/usr/bin/tail")
    for name in ("stat", "status", "statm", "environ", "cmdline", "maps", "smaps"):
        # Whoever opens a FIFO to read waits for ever.
        os.mkfifo(folder / name)
    return folder


def test_the_memory_of_a_victim_is_not_read(tmp_path: Path) -> None:
    """Nor its start: a victim of unknown start is known by its cgroup, or its age."""
    require(ProcessLookup().usable, "/proc counts in another PID namespace than the kernel's log")
    before_ns, me = boottime_ns(), os.getpid()
    folder = make_living_process(tmp_path, "/job/a")
    after_ns = boottime_ns() + SECOND
    processes = ProcessLookup(tmp_path)
    assert processes.by_dying_thread(me, "head") is None
    process = processes.by_dying_thread(me, "tail")
    assert process
    task = process.task
    assert (task.tgid, task.tid, task.namespaced_pid, task.comm) == (me, me, me, "tail")
    assert (task.ppid, task.uid, task.gid) in {
        (os.getppid(), os.getuid(), os.getgid()),
        # Before Linux 6.13.
        (None, None, None),
    }
    assert (task.start_boottime_ns, process.cgroup) == (None, "0::/job/a\n")
    assert before_ns < process.latest_start_ns < after_ns
    for path, killed_ns, expected in (
        ("/job/a", before_ns, True),
        ("/job/b", after_ns, False),
        (None, before_ns, False),
        (None, after_ns, True),
    ):
        memcg = Memcg(None, path) if path else None
        kill = replace(KILL, victim=Task(me, comm="tail"), memcg=memcg, boottime_ns=killed_ns)
        assert processes.is_victim(kill) == expected
        other = replace(kill, victim=Task(me, comm="head"))
        assert processes.is_victim(other) == (path == "/job/a")
    # Once its memory is gone, its files are harmless.
    (folder / "exe").unlink()
    for name, text in (("status", f"Name:\ttail\nTgid:\t{me}\n"), ("stat", None)):
        (folder / name).unlink()
        started = before_ns * os.sysconf("SC_CLK_TCK") // SECOND
        (folder / name).write_text(text or f"{me} (tail) Z {'0 ' * 18}{started} 0\n", "ascii")
    gone = processes.by_dying_thread(me, "tail")
    assert gone
    assert gone.task.start_boottime_ns == gone.latest_start_ns <= before_ns
