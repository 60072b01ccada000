"""The kills of Talos' OOM controller, from records as a node's kernel log has them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from otel_oom.capture.userspace.daemons import is_talos
from otel_oom.capture.userspace.talos import (
    TalosRecord,
    TalosSource,
    parse_fields,
    parse_user_record,
)
from otel_oom.model.events import CapturedEvent, UserspaceKill
from tests.testlib.samples.events import roundtrip

OWN = {"component": "controller-runtime", "controller": "runtime.OOMController"}
POD = "/kubepods/burstable/pod77f06c5c-4593-43e9-b970-987f6ecb825b"
WARNING = 12
"""The facility user, and the level."""


def record(text: str, sequence: int, level: int = WARNING) -> bytes:
    """Return a record as a read of /dev/kmsg has it."""
    # A moment after the start of the source.
    now_us = time.monotonic_ns() // 1000 + 10**6
    return f"{level},{sequence},{now_us},-;{text}\n".encode()


def kill(path: str, pids: list[int], sequence: int = 1, level: int = WARNING) -> list[bytes]:
    """Return the records of a kill."""
    cgroup = json.dumps({**OWN, "cgroup": f"/sys/fs/cgroup{path}"})
    processes = json.dumps({**OWN, "processes": pids})
    return [
        record(f"[talos] OOM controller triggered {json.dumps(OWN)}", sequence, level),
        record(f"[talos] Sending SIGKILL to cgroup {cgroup}", sequence + 1, level),
        record(f"[talos] victim processes: {processes}", sequence + 2, level),
    ]


def read_kills(monkeypatch: pytest.MonkeyPatch, records: list[bytes]) -> list[UserspaceKill]:
    """Return the kills of a log whose reads return these records."""
    waiting = iter(records)

    def read(_: int, __: int) -> bytes:
        for raw in waiting:
            return raw
        raise BlockingIOError

    kills: list[UserspaceKill] = []

    def handle(event: CapturedEvent) -> None:
        assert isinstance(event, UserspaceKill)
        kills.append(event)

    # epoll cannot wait for a plain file; the source reads no more than is there.
    reading, writing = os.pipe()
    with TalosSource(Path(f"/proc/self/fd/{reading}")) as source, monkeypatch.context() as patched:
        patched.setattr("otel_oom.capture.userspace.talos.os.read", read)
        assert source.drain(handle) == len(kills)
    os.close(reading)
    os.close(writing)
    return kills


def test_a_kill_is_two_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cgroup of the first one, the number of the second."""
    (event,) = read_kills(monkeypatch, kill(POD, [4711, 4712]))
    assert (event.killer.name, event.killer.signal) == ("talos", "SIGKILL")
    assert event.memcg is not None
    assert event.memcg.path == POD
    assert (event.capture.sequence, event.capture.recovered) == (3, False)
    assert abs(event.time_unix_ns - time.time_ns()) < 60 * 10**9
    assert roundtrip(event) == event


def test_without_a_process_nothing_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the controller logs for hours, where the cgroup is empty."""
    assert read_kills(monkeypatch, kill(POD, []) * 3) == []


def test_only_the_controller_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the kernel's own facility, another one, nor another program's text."""
    for level in (4, 30):
        assert read_kills(monkeypatch, kill(POD, [1], level=level)) == []
    other = [raw.replace(b"runtime.OOM", b"runtime.Other") for raw in kill(POD, [1])]
    assert read_kills(monkeypatch, other) == []
    other = [raw.replace(b"[talos]", b"a [talos]") for raw in kill(POD, [1])]
    assert read_kills(monkeypatch, other) == []
    for text in ("[talos] victim processes: " + "[" * 5000, "[talos] victim processes: [1]", ""):
        assert parse_fields(text, "[talos] victim processes: ") == {}


def test_records_before_the_start_are_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [b"12,1,5,-;" + raw.partition(b";")[2] for raw in kill(POD, [1])]
    (event,) = read_kills(monkeypatch, records)
    assert event.capture.recovered
    assert not event.verified


def test_malformed_records_are_none() -> None:
    assert parse_user_record(b"12,7,9,-;a\\x20b\n KEY=1\n") == TalosRecord(7, 9, "a b")
    for raw in (b"", b"12,7", b"x,7,9,-;a", b"12,7,9,-", b"4,7,9,-;a", b"-5,7,9,-;a"):
        assert parse_user_record(raw) is None


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        ("talos.platform=metal console=ttyS0\n", True),
        ("root=talos.platform=\n", False),
        ("", False),
    ],
)
def test_talos_is_a_kernel_argument(tmp_path: Path, cmdline: str, *, expected: bool) -> None:
    (tmp_path / "cmdline").write_text(cmdline, encoding="ascii")
    assert is_talos(tmp_path / "cmdline") is expected
    assert not is_talos(tmp_path / "absent")
