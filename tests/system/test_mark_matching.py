"""A kill that was delivered, forgotten and found again is the same event to a backend."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.capture.kmsg import backlog
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.linux import clock
from otel_oom.model.events import CapturedEvent, OomKill
from tests.testlib.agent import run_agent
from tests.testlib.kernel.bpffs import mount_bpffs
from tests.testlib.kernel.kills import kill_many, kill_one
from tests.testlib.kernel.oracle import KernelLog
from tests.testlib.servers.backend import Backend, Received, filter_kills

pytestmark = pytest.mark.usefixtures("real_kills")

WITHIN_S = 60.0


@pytest.fixture
def pin_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder for pins that is not there yet, in a bpffs of the test's own."""
    with mount_bpffs(tmp_path / "bpffs") as mounted:
        yield mounted / "otel-oom" / "v1"


def ids(received: list[Received], pids: Collection[int]) -> dict[int, set[tuple[Any, ...]]]:
    """Of each of these processes the uid, trace and span that its kill was received under."""
    found: dict[int, set[tuple[Any, ...]]] = {pid: set() for pid in pids}
    for one in filter_kills(received, pids):
        named = one.uid, one.item.trace_id, one.item.span_id
        found[one.attributes["process.pid"]].add(named)
    return found


def test_what_was_forgotten_comes_again_under_its_uid(tmp_path: Path, pin_dir: Path) -> None:
    """The state folder is deleted twice: from the kernel's log all is told again, as it was."""
    backend = Backend()
    with Receiver(backend) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with run_agent(tmp_path, environ, pin_dir=pin_dir) as first:
            seen = kill_many(3)
            backend.wait_for_kills(seen, within_s=WITHIN_S)
            first.stop(signal.SIGKILL)
        told = ids(backend.logs, seen)
        for _ in range(2):
            shutil.rmtree(tmp_path / "state")
            backend.logs.clear()
            backend.spans.clear()
            with run_agent(tmp_path, environ, pin_dir=pin_dir, history=True) as again:
                backend.wait_for_kills(seen, within_s=WITHIN_S)
                again.stop(signal.SIGKILL)
            logs = filter_kills(backend.logs, seen)
            assert {log.attributes["oom.capture.source"] for log in logs} == {"kmsg"}
            assert ids(backend.logs, seen) == ids(backend.spans, seen) == told
    assert [len(found) for found in told.values()] == [1] * len(seen)


def test_the_log_finds_the_marks_of_its_kills() -> None:
    """Each line's kill has uid, time and process of its record; that of before has no mark."""
    with KernelLog() as log:
        before = kill_one()
        start = backlog.read_last_sequence()
        with LibbpfSource() as source:
            made = [kill_one() for _ in range(3)]
            events: list[CapturedEvent] = []
            source.drain(events.append)
            told = {e.victim.tgid: e for e in events if isinstance(e, OomKill)}
            found = {
                kill.victim.tgid: kill
                for kill in backlog.read_backlog(
                    clock.boot_id(), "kmsg", -1, source.read_marks
                ).kills
                if kill.capture.sequence > start or kill.victim.tgid == before
            }
        assert {line.pid for line in log.read_killed_lines()} >= {before, *made}
    for pid in made:
        assert found[pid].uid == told[pid].uid
        assert found[pid].boottime_ns == told[pid].boottime_ns
        assert found[pid].victim.start_boottime_ns == told[pid].victim.start_boottime_ns
    assert found[before].capture.identified_by_sequence
