"""The variables of a process's environment, read without delay."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from otel_oom.linux.start_settings import select_variables
from otel_oom.snapshot import environ
from otel_oom.snapshot.environ import EnvironReader, VictimText
from tests.testlib.wait import wait_until

OWN = {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "a=b,c=d"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OTEL_SERVICE_NAME=shop\0OTEL_RESOURCE_ATTRIBUTES=a=b,c=d\0", OWN),
        ("OTEL_EXPORTER_OTLP_HEADERS=key=hunter2\0PASSWORD=hunter2\0", {}),
        ("X_OTEL_SERVICE_NAME=x\0OTEL_SERVICE_NAME_X=x\0otel_service_name=x\0", {}),
        ("X=\nOTEL_SERVICE_NAME=x\0", {}),
        ("OTEL_SERVICE_NAME=first\0OTEL_SERVICE_NAME=second\0", {"OTEL_SERVICE_NAME": "first"}),
        ("OTEL_SERVICE_NAME=\0OTEL_SERVICE_NAME\0", {}),
        ("A=b\0OTEL_SERVICE_NAME=sho", {}),
        ("OTEL_SERVICE_NAME=" + "x" * 4097 + "\0", {}),
        ("nginx: worker process\0\0\0", {}),
        ("", {}),
    ],
)
def test_only_the_two_variables_are_selected(text: str, expected: dict[str, str]) -> None:
    """Each whole or not at all."""
    assert select_variables(text.split("\0")[:-1]) == expected


def test_a_real_process() -> None:
    program = "import sys; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, env={**OWN, "SECRET": "hunter2"}
    ) as process:
        # A first read may meet the time before its execve(2), or a machine that is busy.
        reader, deadline = EnvironReader(), time.monotonic() + 10
        while not (found := reader.read(process.pid).variables) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.communicate()
    assert found == OWN


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    assert EnvironReader(tmp_path).read(1) == VictimText()


def test_a_read_that_hangs_later_keeps_the_service(proc: Path) -> None:
    """Of the files of a process the environment is read first; here the command line blocks."""
    os.mkfifo(proc / "7/cmdline")
    reader = EnvironReader(proc)
    assert read_soon(reader, 7) == {"OTEL_SERVICE_NAME": "good"}
    assert reader.read(7).runtime is None


def add_hanging(proc: Path, *pids: int) -> None:
    """Add processes whose environment blocks its reader: here by a FIFO."""
    for pid in pids:
        (proc / str(pid)).mkdir()
        os.mkfifo(proc / str(pid) / "environ")


@pytest.fixture
def proc(tmp_path: Path) -> Iterator[Path]:
    """A /proc with a process 7; blocked reads end with the test."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7/environ").write_text("OTEL_SERVICE_NAME=good\0", encoding="ascii")
    yield tmp_path
    for fifo in tmp_path.glob("*/[ec]*"):
        with suppress(OSError):
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


def read_soon(reader: EnvironReader, pid: int, cgroup_path: str = "") -> Mapping[str, str]:
    """Read once it succeeds: a busy machine may take longer than a kill waits."""
    deadline = time.monotonic() + 10
    while (
        not (variables := reader.read(pid, cgroup_path).variables) and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    return variables


def test_reads_that_hang_blind_it_for_no_later_victim(proc: Path) -> None:
    hanging = range(100, 100 + environ._MAX_BLOCKED - 1)  # noqa: SLF001  less than its bound
    add_hanging(proc, *hanging)
    reader = EnvironReader(proc)
    for pid in hanging:
        assert reader.read(pid, f"/system.slice/{pid}.service") == VictimText()
        assert read_soon(reader, 7) == {"OTEL_SERVICE_NAME": "good"}


def test_the_thread_starts_before_the_first_victim_only_if_it_is_started(proc: Path) -> None:
    before = {*threading.enumerate()}
    reader = EnvironReader(proc)
    assert {*threading.enumerate()} <= before
    reader.start()
    reader.start()
    assert len({*threading.enumerate()} - before) == 1
    reader.close()


def test_victims_of_one_tenant_do_not_use_all_threads(proc: Path) -> None:
    tenant = "/user.slice/user-1000.slice"
    hanging = range(100, 100 + 3 * environ._MAX_BLOCKED)  # noqa: SLF001  its bound
    add_hanging(proc, *hanging)
    reader = EnvironReader(proc)
    reader.start()
    before = threading.active_count()
    for pid in hanging:
        assert reader.read(pid, f"{tenant}/{pid}") == VictimText()
    assert threading.active_count() - before <= 2
    assert read_soon(reader, 7, "/system.slice/a.service") == {"OTEL_SERVICE_NAME": "good"}


def test_threads_are_bounded_and_end_once_their_reads_do(proc: Path) -> None:
    """The late results are dropped, and are no later victim's."""
    before = set(threading.enumerate())

    def count_threads() -> int:
        return sum(thread.name == "environ" for thread in {*threading.enumerate()} - before)

    hanging = range(100, 130)
    add_hanging(proc, *hanging)
    reader = EnvironReader(proc)
    for pid in hanging:
        assert reader.read(pid, f"/system.slice/{pid}.service") == VictimText()
    assert count_threads() == environ._MAX_BLOCKED + 1  # noqa: SLF001  its bound
    assert reader.read(7) == VictimText()
    for pid in hanging:
        with suppress(OSError):
            descriptor = os.open(proc / str(pid) / "environ", os.O_WRONLY | os.O_NONBLOCK)
            os.write(descriptor, b"OTEL_SERVICE_NAME=late\0")
            os.close(descriptor)
    assert read_soon(reader, 7) == {"OTEL_SERVICE_NAME": "good"}
    wait_until(lambda: count_threads() == 1, "the end of the others")


def test_an_environment_beyond_the_bound_makes_the_settings_incomplete(tmp_path: Path) -> None:
    """A variable behind the bound could be the one that decides."""
    for pid, size in ((8, 60_000), (9, 70_000)):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "environ").write_text(f"A={'x' * size}\0JAVA_TOOL_OPTIONS=-Xmx1g\0", "ascii")
        (folder / "cmdline").write_text("java\0Main\0", "ascii")
        (folder / "exe").symlink_to("/usr/bin/java")
    reader = EnvironReader(tmp_path, 10.0)
    whole, cut = (reader.read(pid).runtime for pid in (8, 9))
    reader.close()
    assert whole
    assert cut
    assert (dict(whole.settings), whole.is_complete) == ({"JAVA_TOOL_OPTIONS": "-Xmx1g"}, True)
    assert (dict(cut.settings), cut.is_complete) == ({}, False)


def test_unexpected_errors_blind_it_for_no_later_victim(
    proc: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the thread nor its bound is lost; the message of an error may hold secrets."""

    def fail(*_: object) -> None:
        raise RecursionError(OWN)

    monkeypatch.setattr(environ.__name__ + ".read_runtime", fail)
    reader = EnvironReader(proc, 10.0)
    for _ in range(environ._MAX_BLOCKED + 1):  # noqa: SLF001  its bound
        started = time.monotonic()
        assert reader.read(7) == VictimText()
        assert time.monotonic() - started < 10
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "RecursionError" in caplog.text
    assert "shop" not in caplog.text
    monkeypatch.undo()
    assert reader.read(7).variables == {"OTEL_SERVICE_NAME": "good"}
    reader.close()
