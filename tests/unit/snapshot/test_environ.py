"""The variables of a process's environment, read without delay."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from otel_oom.snapshot import environ
from otel_oom.snapshot.environ import EnvironReader, select_variables
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
    assert select_variables(text) == expected


def test_a_real_process() -> None:
    program = "import sys; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, env={**OWN, "SECRET": "hunter2"}
    ) as process:
        # A first read may meet the time before its execve(2), or a machine that is busy.
        reader, deadline = EnvironReader(), time.monotonic() + 10
        while not (found := reader.read(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.communicate()
    assert found == OWN


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    assert EnvironReader(tmp_path).read(1) == {}


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
    for fifo in tmp_path.glob("*/environ"):
        with suppress(OSError):
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


def read_soon(reader: EnvironReader, pid: int, cgroup_path: str = "") -> dict[str, str]:
    """Read once it succeeds: a busy machine may take longer than a kill waits."""
    deadline = time.monotonic() + 10
    while not (variables := reader.read(pid, cgroup_path)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return variables


def test_reads_that_hang_blind_it_for_no_later_victim(proc: Path) -> None:
    hanging = range(100, 100 + environ._MAX_BLOCKED - 1)  # noqa: SLF001  less than its bound
    add_hanging(proc, *hanging)
    reader = EnvironReader(proc)
    for pid in hanging:
        assert reader.read(pid, f"/system.slice/{pid}.service") == {}
        assert read_soon(reader, 7) == {"OTEL_SERVICE_NAME": "good"}


def test_victims_of_one_tenant_do_not_use_all_threads(proc: Path) -> None:
    tenant = "/user.slice/user-1000.slice"
    hanging = range(100, 100 + 3 * environ._MAX_BLOCKED)  # noqa: SLF001  its bound
    add_hanging(proc, *hanging)
    reader, before = EnvironReader(proc), threading.active_count()
    for pid in hanging:
        assert reader.read(pid, f"{tenant}/{pid}") == {}
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
        assert reader.read(pid, f"/system.slice/{pid}.service") == {}
    assert count_threads() == environ._MAX_BLOCKED + 1  # noqa: SLF001  its bound
    assert reader.read(7) == {}
    for pid in hanging:
        with suppress(OSError):
            descriptor = os.open(proc / str(pid) / "environ", os.O_WRONLY | os.O_NONBLOCK)
            os.write(descriptor, b"OTEL_SERVICE_NAME=late\0")
            os.close(descriptor)
    assert read_soon(reader, 7) == {"OTEL_SERVICE_NAME": "good"}
    wait_until(lambda: count_threads() == 1, "the end of the others")
