"""Each kill that the kernel counts is an event, whether an agent ran or not."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from otel_oom.agent.reconciler import Reconciler
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.linux.kill_count import read_kill_count
from otel_oom.model.events import CapturedEvent, OomKill
from otel_oom.model.loss import MissedKills
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import Store
from tests.testlib.agent import run_agent
from tests.testlib.kernel.kills import kill_many, kill_one
from tests.testlib.kernel.oracle import read_oom_kill_count
from tests.testlib.servers.backend import Backend, Received

pytestmark = pytest.mark.usefixtures("real_kills")

WITHIN_S: Final = 30.0


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def logged_pids(backend: Backend) -> list[int]:
    """Return the process ids of the kills that were received as logs."""
    return [log.attributes["process.pid"] for log in backend.logs if log.item.event_name == KILL]


KILL: Final = "oom.kill"


def missed_logs(backend: Backend) -> list[Received]:
    """Return the logs about missed kills."""
    return [log for log in backend.logs if log.item.event_name == "oom.missed"]


def test_kills_of_this_boot_from_before_the_first_start_come_from_the_log(tmp_path: Path) -> None:
    """Each kill that the kernel counted is an event, or is counted by an ``oom.missed`` event."""
    before = kill_many(3)
    backend = Backend()
    with (
        Receiver(backend) as receiver,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}, history=True),
    ):
        wait_until(lambda: set(before) <= set(logged_pids(backend)), "the log's kills")
        captured = kill_one()
        wait_until(lambda: captured in logged_pids(backend), "a captured kill")
        counted = read_oom_kill_count()
        kill_logs = [log for log in backend.logs if log.item.event_name == KILL]
        # Group kills that the kernel counts twice are in neither.
        missed = sum(log.attributes["oom.missed.count"] for log in missed_logs(backend))
        assert len(kill_logs) + missed <= counted
        sources = {log.attributes["process.pid"]: log.attributes for log in kill_logs}
    for pid in before:
        assert sources[pid]["oom.capture.source"] == "kmsg"
    assert sources[captured]["oom.capture.source"] == "libbpf"
    assert len({log.uid for log in backend.logs}) == len(backend.logs)


def test_kills_between_two_runs_come_from_the_log(tmp_path: Path) -> None:
    """Each is recorded once, and earlier ones are no duplicates."""
    backend = Backend()
    with Receiver(backend) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with run_agent(tmp_path, environ) as running:
            captured = kill_many(3)
            wait_until(lambda: set(captured) <= set(logged_pids(backend)), "the first kills")
            # It settles once they are recorded.
            time.sleep(2)
            running.stop(signal.SIGKILL)
        recovered = kill_many(3)
        with run_agent(tmp_path, environ):
            wait_until(lambda: set(recovered) <= set(logged_pids(backend)), "the kills of the log")
            time.sleep(2)
        with run_agent(tmp_path, environ):
            time.sleep(3)
    killed = captured + recovered
    assert sorted(pid for pid in logged_pids(backend) if pid in killed) == sorted(killed)
    assert not missed_logs(backend)
    assert all(log.attributes["oom.capture.source"] for log in backend.logs)


class Recorder:
    """Stores the events of a reconciler."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.events: list[CapturedEvent] = []

    def __call__(self, event: CapturedEvent) -> None:
        assert isinstance(event, OomKill | MissedKills)
        self.events.append(event)
        self._store.insert(event, Snapshot(process_found=False))


def test_kills_that_the_log_lacks_are_missed(tmp_path: Path) -> None:
    """They are one event with their count, recorded once."""
    vmstat = tmp_path / "vmstat"
    with Store(tmp_path / "state") as store:
        recorder = Recorder(store)

        def compare(count: int) -> bool:
            vmstat.write_text(f"oom_kill {count}\n", encoding="ascii")
            return reconciler.compare(read_kill_count(vmstat))

        reconciler = Reconciler(
            store, drain=lambda: None, record=recorder, history=False, vmstat=vmstat
        )
        assert not compare(5)
        assert not compare(5)
        assert compare(8), "a difference is looked at again"
        assert not recorder.events
        reconciler.buffer_was_full()
        assert not compare(8)
        (missed,) = recorder.events
        assert isinstance(missed, MissedKills)
        assert (missed.count, missed.kernel_count, missed.reason) == (3, 8, "buffer_full")
        assert not compare(8)
        again = Reconciler(store, drain=lambda: None, record=recorder, history=False, vmstat=vmstat)
        assert not again.compare(read_kill_count(vmstat))
        assert len(recorder.events) == 1
