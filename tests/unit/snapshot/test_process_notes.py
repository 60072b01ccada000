"""Notes of large processes: which are taken, and for whom they count."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.process import ProcessDir
from otel_oom.model.types import Task
from otel_oom.model.units import NS_PER_S, PAGE_BYTES
from otel_oom.snapshot import process_notes
from otel_oom.snapshot.environ import EnvironReader
from otel_oom.snapshot.process_notes import ProcessNotes
from tests.testlib.wait import wait_until

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LARGE = (9 << 20) // PAGE_BYTES


def now_ticks() -> int:
    """Return the time since boot."""
    return boottime_ns() * TICKS_PER_S // NS_PER_S


def add_process(  # noqa: PLR0913, PLR0917  a process
    proc: Path,
    pid: int,
    pages: int,
    start_ticks: int,
    name: str = "shop",
    address: int = 0x7FFC_0000_0000,
) -> Task:
    """Add or replace a process whose environment has this name of a service, and its address."""
    folder = proc / str(pid)
    folder.mkdir(exist_ok=True)
    (folder / "statm").write_text(f"{pages} {pages} 0 0 0 0 0\n", encoding="ascii")
    fields = [
        "S",
        "1",
        *["0"] * 17,
        str(start_ticks),
        *["0"] * 27,
        str(address),
        str(address + 99),
        "0",
    ]
    (folder / "stat").write_text(f"{pid} (a) {' '.join(fields)}\n", encoding="ascii")
    (folder / "environ").write_text(f"OTEL_SERVICE_NAME={name}\0", encoding="ascii")
    return Task(pid, start_boottime_ns=start_ticks * NS_PER_S // TICKS_PER_S)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[EnvironReader]:
    with closing(EnvironReader(tmp_path, 10.0)) as environ_reader:
        yield environ_reader


def find_name(notes: ProcessNotes, task: Task) -> str | None:
    """Return the noted name."""
    note = notes.find(task, None)
    return note.variables.get("OTEL_SERVICE_NAME") if note else None


def scan_until(notes: ProcessNotes, reader: EnvironReader, task: Task, name: str) -> None:
    """Scan until a process has this name: on a busy machine a read can take too long."""

    def has_name() -> bool:
        notes.scan(reader)
        return find_name(notes, task) == name

    wait_until(has_name, "the note")


def test_a_large_process_is_noted_once_and_kept_for_its_own_start(
    tmp_path: Path, reader: EnvironReader
) -> None:
    notes, started = ProcessNotes(tmp_path), now_ticks() - 60 * TICKS_PER_S
    task = add_process(tmp_path, 4711, LARGE, started)
    scan_until(notes, reader, task, "shop")
    (tmp_path / "4711/environ").write_text("OTEL_SERVICE_NAME=other\0", encoding="ascii")
    for _ in range(20):
        notes.scan(reader)
    assert find_name(notes, task) == "shop"
    later = add_process(tmp_path, 4711, LARGE, started + 5, "later")
    assert find_name(notes, later) is None
    scan_until(notes, reader, later, "later")
    assert find_name(notes, task) is None
    assert notes.find(Task(4711), None) is None


def test_small_and_young_ones_are_not_noted_until_they_are_neither(
    tmp_path: Path, reader: EnvironReader
) -> None:
    """A young one can be a runtime that has not yet executed a container's program."""
    notes, started = ProcessNotes(tmp_path), now_ticks() - 60 * TICKS_PER_S
    small = add_process(tmp_path, 11, 10, started)
    young = add_process(tmp_path, 12, LARGE, now_ticks() + 60 * TICKS_PER_S)
    for _ in range(5):
        notes.scan(reader)
    assert notes.find(small, None) is notes.find(young, None) is None
    scan_until(notes, reader, add_process(tmp_path, 11, LARGE, started), "shop")


def test_the_dead_and_the_oldest_beyond_the_bound_are_forgotten(
    tmp_path: Path, reader: EnvironReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_notes, "_MAX_NOTES", 2)
    notes, started = ProcessNotes(tmp_path), now_ticks() - 60 * TICKS_PER_S
    tasks = [add_process(tmp_path, pid, LARGE, started) for pid in (21, 22, 23)]
    notes.scan(reader)
    assert sum(notes.find(task, None) is not None for task in tasks) == 2
    for file in tmp_path.glob("2[123]/*"):
        file.unlink()
    for folder in tmp_path.glob("2[123]"):
        folder.rmdir()
    notes.scan(reader)
    assert [notes.find(task, None) for task in tasks] == [None] * 3


def test_a_scan_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a kill memory is short, also for this thread."""
    monkeypatch.setattr(process_notes, "_FIRST_S", 0.001)
    monkeypatch.setattr(process_notes, "_INTERVAL_S", 0.001)
    scans: list[int] = []

    def scan(*_: object) -> None:
        scans.append(len(scans))
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) if len(scans) % 2 else MemoryError

    monkeypatch.setattr(ProcessNotes, "scan", scan)
    notes = ProcessNotes()
    with closing(notes):
        notes.start()
        wait_until(lambda: len(scans) > 3, "scans after failed ones")


def test_there_are_no_notes_without_memory_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError

    notes = ProcessNotes()
    monkeypatch.setattr(threading.Thread, "start", start)
    notes.start()
    assert notes.find(Task(1, start_boottime_ns=1), None) is None


def test_a_note_of_before_an_execve_counts_for_nothing(
    tmp_path: Path, reader: EnvironReader
) -> None:
    """It keeps pid and start, and moves the environment: at the kill, and in the next scan."""
    notes, started = ProcessNotes(tmp_path), now_ticks() - 60 * TICKS_PER_S
    task = add_process(tmp_path, 4711, LARGE, started, "wrapper")
    scan_until(notes, reader, task, "wrapper")
    process = ProcessDir(4711, tmp_path)
    assert notes.find(task, process.read_stat())
    add_process(tmp_path, 4711, 10, started, "program", 0x7FFD_0000_0000)
    assert notes.find(task, process.read_stat()) is None
    notes.scan(reader)
    assert notes.find(task, None) is None
    add_process(tmp_path, 4711, LARGE, started, "program", 0x7FFD_0000_0000)
    scan_until(notes, reader, task, "program")


def test_a_victim_without_memory_has_the_note_of_the_last_scan_only(
    tmp_path: Path, reader: EnvironReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its addresses are zeros by then; a check before that scan may be older than an execve."""
    notes, started = ProcessNotes(tmp_path), now_ticks() - 60 * TICKS_PER_S
    task = add_process(tmp_path, 4711, LARGE, started)
    scan_until(notes, reader, task, "shop")
    add_process(tmp_path, 4711, 0, started, address=0)
    stat = ProcessDir(4711, tmp_path).read_stat()
    notes.scan(reader)
    assert notes.find(task, stat)
    later_ns = boottime_ns() + 20 * NS_PER_S
    monkeypatch.setattr(process_notes, "boottime_ns", lambda: later_ns)
    assert notes.find(task, stat) is None


def test_the_kernel_moves_the_environment_by_execve() -> None:
    """The same program with the same environment is laid out anew."""
    program = "read -r _; exec /bin/sh -c 'read -r _; read -r _'"
    with subprocess.Popen(["/bin/sh", "-c", program], stdin=subprocess.PIPE) as process:
        wait_until(lambda: read_layout(process.pid) is not None, "its start")
        wait_until(lambda: b"exec" in Path(f"/proc/{process.pid}/cmdline").read_bytes(), "exec")
        before = read_layout(process.pid)
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
        wait_until(lambda: read_layout(process.pid) not in (None, before), "another layout")
        process.communicate(b"\n\n")


def read_layout(pid: int) -> tuple[str, ...] | None:
    """Return the addresses of a process."""
    stat = ProcessDir(pid).read_stat()
    return stat.layout if stat else None
