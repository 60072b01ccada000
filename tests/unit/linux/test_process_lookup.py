"""Processes of threads, in this kernel's /proc and in one made by hand."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.types import Task
from tests.testlib.require import require

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
