"""Kills that are read again from the kernel log keep their uids."""

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
    """Return a pin folder that does not exist yet, in a bpffs of the test."""
    with mount_bpffs(tmp_path / "bpffs") as mounted:
        yield mounted / "otel-oom" / "v1"


def received_ids(
    received: list[Received], pids: Collection[int]
) -> dict[int, set[tuple[Any, ...]]]:
    """Return the uid, trace and span of each process by which its kill was received."""
    ids: dict[int, set[tuple[Any, ...]]] = {pid: set() for pid in pids}
    for kill in filter_kills(received, pids):
        identity = kill.uid, kill.item.trace_id, kill.item.span_id
        ids[kill.attributes["process.pid"]].add(identity)
    return ids


def test_kills_of_a_lost_store_keep_their_uids(tmp_path: Path, pin_dir: Path) -> None:
    """The state directory is deleted twice; the kills are read again from the kernel log."""
    backend = Backend()
    with Receiver(backend) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with run_agent(tmp_path, environ, pin_dir=pin_dir) as first:
            pids = kill_many(3)
            backend.wait_for_kills(pids, within_s=WITHIN_S)
            first.stop(signal.SIGKILL)
        first_ids = received_ids(backend.logs, pids)
        for _ in range(2):
            shutil.rmtree(tmp_path / "state")
            backend.logs.clear()
            backend.spans.clear()
            with run_agent(tmp_path, environ, pin_dir=pin_dir, history=True) as restarted:
                backend.wait_for_kills(pids, within_s=WITHIN_S)
                restarted.stop(signal.SIGKILL)
            logs = filter_kills(backend.logs, pids)
            assert {log.attributes["oom.capture.source"] for log in logs} == {"kmsg"}
            assert (
                received_ids(backend.logs, pids) == received_ids(backend.spans, pids) == first_ids
            )
    assert [len(ids) for ids in first_ids.values()] == [1] * len(pids)


def test_kills_of_the_log_match_their_marks() -> None:
    """A kill before the attachment has no mark."""
    with KernelLog() as log:
        before = kill_one()
        start = backlog.read_last_sequence()
        with LibbpfSource() as source:
            marked = [kill_one() for _ in range(3)]
            events: list[CapturedEvent] = []
            source.drain(events.append)
            captured = {e.victim.tgid: e for e in events if isinstance(e, OomKill)}
            logged = {
                kill.victim.tgid: kill
                for kill in backlog.read_backlog(
                    clock.boot_id(), "kmsg", -1, source.read_marks
                ).kills
                if kill.capture.sequence > start or kill.victim.tgid == before
            }
        assert {line.pid for line in log.read_killed_lines()} >= {before, *marked}
    for pid in marked:
        assert logged[pid].uid == captured[pid].uid
        assert logged[pid].boottime_ns == captured[pid].boottime_ns
        assert logged[pid].victim.start_boottime_ns == captured[pid].victim.start_boottime_ns
    assert logged[before].capture.identified_by_sequence
