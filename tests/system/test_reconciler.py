"""Every kill that the kernel counts is told, whoever was there to see it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from otel_oom.agent import reconciler as reconcile
from otel_oom.agent.reconciler import Reconciler
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.model.events import CapturedEvent, MissedKills, OomKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import Store
from tests.testlib.agent import run_agent
from tests.testlib.kernel.kills import kill_many, kill_one
from tests.testlib.kernel.oracle import read_oom_kill_count
from tests.testlib.servers.backend import Backend, Received

pytestmark = pytest.mark.usefixtures("real_kills")

WITHIN_S: Final = 30.0


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def pids_of(backend: Backend) -> list[int]:
    """Whose kills were received, as logs."""
    return [log.attributes["process.pid"] for log in backend.logs if log.item.event_name == KILL]


KILL: Final = "oom.kill"


def missed_of(backend: Backend) -> list[Received]:
    """What was received of kills that nothing tells of."""
    return [log for log in backend.logs if log.item.event_name == "oom.missed"]


def test_kills_of_this_boot_from_before_the_first_start_come_from_the_log(tmp_path: Path) -> None:
    """Every kill that the kernel has counted is an event, or is counted by one that is missed."""
    before = kill_many(3)
    backend = Backend()
    with (
        Receiver(backend) as receiver,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}, history=True),
    ):
        wait_until(lambda: set(before) <= set(pids_of(backend)), "the log's kills")
        seen = kill_one()
        wait_until(lambda: seen in pids_of(backend), "a kill that was seen")
        counted = read_oom_kill_count()
        told = [log for log in backend.logs if log.item.event_name == KILL]
        # Group kills that the kernel counts twice are in neither.
        missed = sum(log.attributes["oom.missed.count"] for log in missed_of(backend))
        assert len(told) + missed <= counted
        sources = {log.attributes["process.pid"]: log.attributes for log in told}
    for pid in before:
        assert sources[pid]["oom.capture.source"] == "kmsg"
    assert sources[seen]["oom.capture.source"] == "libbpf"
    assert len({log.uid for log in backend.logs}) == len(backend.logs)


def test_what_an_agent_that_is_gone_did_not_see_comes_from_the_log(tmp_path: Path) -> None:
    """Kills while none runs are told once by the next, and those that were told are not again."""
    backend = Backend()
    with Receiver(backend) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with run_agent(tmp_path, environ) as running:
            seen = kill_many(3)
            wait_until(lambda: set(seen) <= set(pids_of(backend)), "the first kills")
            # It settles once they are told.
            time.sleep(2)
            running.stop(signal.SIGKILL)
        unseen = kill_many(3)
        with run_agent(tmp_path, environ):
            wait_until(lambda: set(unseen) <= set(pids_of(backend)), "the kills of the log")
            time.sleep(2)
        with run_agent(tmp_path, environ):
            time.sleep(3)
    made = seen + unseen
    assert sorted(pid for pid in pids_of(backend) if pid in made) == sorted(made)
    assert not missed_of(backend)
    assert all(log.attributes["oom.capture.source"] for log in backend.logs)


class _Found:
    """What a reconciler hands over, stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.events: list[CapturedEvent] = []

    def __call__(self, event: CapturedEvent) -> None:
        assert isinstance(event, OomKill | MissedKills)
        self.events.append(event)
        self._store.insert(event, Snapshot(process_found=False))


def test_what_the_log_has_lost_is_missed(tmp_path: Path) -> None:
    """A count that nothing explains is one event with that count, told once."""
    vmstat = tmp_path / "vmstat"
    with Store(tmp_path / "state") as store:
        found = _Found(store)

        def compare(count: int) -> bool:
            vmstat.write_text(f"oom_kill {count}\n", encoding="ascii")
            return reconciler.compare(reconcile.read_kill_count(vmstat))

        reconciler = Reconciler(
            store, drain=lambda: None, record=found, history=False, vmstat=vmstat
        )
        assert not compare(5)
        assert not compare(5)
        assert compare(8), "a difference is looked at again"
        assert not found.events
        reconciler.buffer_was_full()
        assert not compare(8)
        (missed,) = found.events
        assert isinstance(missed, MissedKills)
        assert (missed.count, missed.kernel_count, missed.reason) == (3, 8, "buffer_full")
        assert not compare(8)
        again = Reconciler(store, drain=lambda: None, record=found, history=False, vmstat=vmstat)
        assert not again.compare(reconcile.read_kill_count(vmstat))
        assert len(found.events) == 1
