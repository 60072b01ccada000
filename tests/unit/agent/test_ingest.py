"""The ingest loop, with events in an order that a real kernel rarely produces."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.linux import clock
from otel_oom.model.events import OomKill, UndecodableRecord, UserspaceKill, VictimExit
from otel_oom.model.loss import LostEvents
from otel_oom.model.snapshot import HostMemory, Snapshot
from otel_oom.model.usage import Crossing, UsageHistory, UsageSeries
from otel_oom.snapshot import ProcessScanner
from otel_oom.store import PendingEvent, Store, undecodable
from tests.testlib.ingest import ScriptedSource, ingest, ingest_loop
from tests.testlib.samples.events import EXIT, KILL, PANIC

NOW = replace(KILL, boot_id=clock.boot_id())


def read_rows(state_dir: Path) -> list[PendingEvent]:
    """Read the events that are not delivered."""
    with Store(state_dir) as store:
        return list(store.pending_events(10, clock.boot_id(), 0))


def test_an_exit_that_precedes_its_mark_is_kept(tmp_path: Path) -> None:
    """A victim that dies at once, on another CPU, can exit before it is marked."""
    ingest(tmp_path, EXIT, NOW)
    (row,) = read_rows(tmp_path)
    assert row.exit == EXIT


@pytest.mark.parametrize(
    ("exit_", "kept"),
    [(EXIT, True), (replace(EXIT, boottime_ns=1), False)],
    ids=["at once", "long before"],
)
def test_an_early_exit_is_matched_by_time_where_the_start_is_unknown(
    tmp_path: Path, exit_: VictimExit, *, kept: bool
) -> None:
    kill = replace(
        NOW,
        boottime_ns=EXIT.boottime_ns + 1000,
        victim=replace(KILL.victim, start_boottime_ns=None),
    )
    ingest(tmp_path, exit_, kill)
    (row,) = read_rows(tmp_path)
    assert row.exit == (exit_ if kept else None)


def test_processes_and_settings_are_added_unless_the_kill_is_recovered(tmp_path: Path) -> None:
    now = replace(NOW, decision=None, stack=(), tasks=None)
    recovered = replace(
        now,
        boottime_ns=now.boottime_ns + 1,
        victim=replace(now.victim, start_boottime_ns=1),
        capture=replace(now.capture, recovered=True),
    )
    ingest(tmp_path, now, recovered)
    full, empty = read_rows(tmp_path)
    assert isinstance(full.event, OomKill)
    assert full.event.tasks is not None
    assert full.event.tasks.largest
    assert full.snapshot.vm_sysctl["panic_on_oom"] in {0, 1, 2}
    assert full.snapshot.host is not None
    assert isinstance(empty.event, OomKill)
    assert empty.event.tasks is None
    assert (empty.snapshot.vm_sysctl, empty.snapshot.host) == ({}, None)


@pytest.mark.parametrize("recovered", [False, True])
def test_a_stored_kill_is_completed_by_the_kernel_log(tmp_path: Path, *, recovered: bool) -> None:
    """The report, and the decision where no hook reports it."""
    captured = replace(
        NOW, decision=None, tasks=None, capture=replace(NOW.capture, recovered=recovered)
    )
    ingest(
        tmp_path,
        captured,
        annotate=lambda kill: replace(kill, original="report", decision=NOW.decision),
    )
    (row,) = read_rows(tmp_path)
    assert isinstance(row.event, OomKill)
    assert row.event.uid == captured.uid
    assert (row.event.original, row.event.decision) == ("report", NOW.decision)


def test_a_failed_process_scan_does_not_affect_the_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProcessScanner, "add_tasks", lambda *_, **__: 1 / 0)
    kill = replace(NOW, tasks=None)
    ingest(tmp_path, kill)
    (row,) = read_rows(tmp_path)
    assert row.event == kill


def test_a_panic_that_is_found_at_two_starts_is_recorded_once(tmp_path: Path) -> None:
    new = []
    for _ in range(2):
        with Store(tmp_path) as store:
            new.append(store.insert(PANIC, Snapshot(process_found=False)))
    assert new == [True, False]
    (row,) = read_rows(tmp_path)
    assert row.event == PANIC


def test_a_full_quarantine_stops_no_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Undecodable records beyond its bound are dropped and counted."""
    monkeypatch.setattr(undecodable, "_MAX_RECORDS", 1)
    records = [UndecodableRecord(bytes([number]), "layout 9") for number in range(4)]
    ingest(tmp_path, *records, NOW)
    (row,) = read_rows(tmp_path)
    assert row.event.uid == NOW.uid
    assert len(list((tmp_path / "undecodable").iterdir())) == 1
    assert "undecodable is full: dropped=3" in caplog.text


@pytest.mark.parametrize(
    ("unfit", "kept_text"),
    [
        (replace(NOW, boottime_ns=1 << 64), f"boottime_ns={1 << 64}"),
        (
            replace(NOW, victim=replace(NOW.victim, start_boottime_ns=1 << 65)),
            f"start_boottime_ns={1 << 65}",
        ),
    ],
    ids=["time", "start"],
)
def test_an_event_that_fits_no_row_stops_no_other(
    tmp_path: Path, unfit: OomKill, kept_text: str
) -> None:
    """It is kept beside the database: SQLite's integers have 64 bits."""
    ingest(tmp_path, unfit, NOW)
    (row,) = read_rows(tmp_path)
    assert row.event.uid == NOW.uid
    (kept,) = (tmp_path / "undecodable").iterdir()
    assert kept_text in kept.read_text(encoding="utf-8")


def test_an_entry_that_fails_in_a_log_stops_no_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log of user space holds what others wrote; the kernel's events go on."""
    with Store(tmp_path) as store, ScriptedSource([NOW]) as source, ScriptedSource() as log:
        monkeypatch.setattr(log, "drain", lambda _: int("9" * 5000))
        ingest_loop(source, store, others=[log]).finish()
    (row,) = read_rows(tmp_path)
    assert row.event.uid == NOW.uid


def test_lost_kills_are_logged_with_their_cgroups(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest first; a name may have been chosen to be hostile."""
    by_cgroup = {"": 1, "docker-1.scope": 40, "a\x1b[2J\nb=9": 2}
    lost = LostEvents(victims=43, victims_by_cgroup=by_cgroup)
    monkeypatch.setattr(ScriptedSource, "lost_events", lambda _: lost)
    ingest(tmp_path, NOW)
    assert (
        'Lost kills by cgroup: docker-1.scope=40, "a\\u001b[2J\\nb=9"=2, unknown=1' in caplog.text
    )


SERIES = UsageSeries("/docker/app", 5, 15, (1, 2, 3), 9)


class ScriptedUsage:
    """A source of usage, with the kills that it got."""

    is_capturing = False

    def __init__(self, error: Exception | None = None) -> None:
        self.kills: list[tuple[OomKill | UserspaceKill, HostMemory | None, bool]] = []
        self.error = error

    def build_history(self, kill: OomKill | UserspaceKill, host: HostMemory | None) -> UsageHistory:
        self.kills.append((kill, host, self.is_capturing))
        if self.error:
            raise self.error
        return UsageHistory(victim=SERIES, crossings=(Crossing(5, "/docker", "max"),))


def test_the_usage_before_a_kill_ends_with_that_of_the_mark(tmp_path: Path) -> None:
    """Not with what is read of the cgroup later; the decision may be in the log alone."""
    usage = ScriptedUsage()
    captured = replace(NOW, decision=None, memcg_usage=None)
    ingest(
        tmp_path,
        captured,
        annotate=lambda kill: replace(kill, decision=NOW.decision),
        usage=usage,
    )
    (before, _, _), (kill, host, was_capturing) = usage.kills
    assert before.decision is None
    assert kill.memcg_usage is None
    assert kill.decision == NOW.decision
    assert host is not None
    assert was_capturing
    assert not usage.is_capturing
    (row,) = read_rows(tmp_path)
    assert row.snapshot.usage_history is not None
    assert row.snapshot.usage_history.crossings == (Crossing(5, "/docker", "max"),)


def test_the_usage_of_the_own_limit_is_that_of_the_victim(tmp_path: Path) -> None:
    """As it was before the kernel printed the decision."""
    usage = ScriptedUsage()
    assert NOW.decision is not None
    decision = replace(NOW.decision, memcg=NOW.memcg)
    ingest(
        tmp_path,
        replace(NOW, decision=None),
        annotate=lambda kill: replace(kill, decision=decision),
        usage=usage,
    )
    assert len(usage.kills) == 1
    (row,) = read_rows(tmp_path)
    assert row.snapshot.usage_history is not None
    assert row.snapshot.usage_history.limit == SERIES
    assert row.snapshot.usage_history.victim is None


def test_the_usage_of_a_decision_that_changes_is_built_again(tmp_path: Path) -> None:
    """What was built is that of another limit."""
    usage = ScriptedUsage()
    assert NOW.decision is not None
    decision = replace(NOW.decision, memcg=NOW.memcg)
    ingest(tmp_path, NOW, annotate=lambda kill: replace(kill, decision=decision), usage=usage)
    assert [kill.decision for kill, _, _ in usage.kills] == [NOW.decision, decision]


def test_a_failure_of_the_usage_does_not_affect_the_kill(tmp_path: Path) -> None:
    usage = ScriptedUsage(error=ZeroDivisionError())
    ingest(tmp_path, NOW, usage=usage)
    (row,) = read_rows(tmp_path)
    assert isinstance(row.event, OomKill)
    assert row.event.tasks is not None
    assert row.snapshot.usage_history is None
    assert not usage.is_capturing
