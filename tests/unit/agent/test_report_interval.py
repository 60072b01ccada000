"""One report for the kills of a container within an interval."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.agent import report_interval
from otel_oom.agent.report_interval import ReportInterval
from otel_oom.linux import clock
from otel_oom.model.events import OomKill
from otel_oom.model.snapshot import Container, EventContainers, Snapshot
from otel_oom.model.types import Memcg
from otel_oom.model.units import NS_PER_S
from otel_oom.snapshot import ProcessScanner
from otel_oom.store import Store
from tests.testlib.ingest import ingest
from tests.testlib.samples.events import DECISION, KILL, SNAPSHOT

USER = "/user.slice/user-1000.slice"


def kill_at(seconds: float, path: str = f"{USER}/a.scope") -> OomKill:
    """Return a kill at that time, with its report and its decision in the log alone."""
    return replace(
        KILL,
        boot_id=clock.boot_id(),
        boottime_ns=int((100 + seconds) * NS_PER_S),
        victim=replace(KILL.victim, start_boottime_ns=int(seconds * NS_PER_S)),
        memcg=Memcg(1, path),
        decision=None,
        tasks=None,
    )


def annotate(kill: OomKill) -> OomKill:
    return replace(kill, decision=DECISION, original="report", tasks=KILL.tasks)


def stored(tmp_path: Path, kills: list[OomKill], interval_s: int) -> list[OomKill]:
    ingest(tmp_path, *kills, annotate=annotate, report_interval_s=interval_s)
    with Store(tmp_path) as store:
        rows = store.pending_events(100, clock.boot_id(), 0)
    events = [row.event for row in rows if isinstance(row.event, OomKill)]
    assert len(events) == len(kills)
    return sorted(events, key=lambda event: event.boottime_ns)


def test_later_kills_refer_to_the_report_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned: list[str] = []

    def add_tasks(_: ProcessScanner, kill: OomKill, *, swapped: bool) -> OomKill:
        del swapped
        scanned.append(kill.uid)
        return kill

    monkeypatch.setattr(ProcessScanner, "add_tasks", add_tasks)
    # A cgroup of its own for each: the user may create them.
    kills = [kill_at(time, f"{USER}/{time}.scope") for time in (0, 1, 9.9, 10, 10.1)]
    events = stored(tmp_path, kills, 10)
    assert [event.report_uid for event in events] == [
        *(None, kills[0].uid, kills[0].uid),
        *(None, kills[3].uid),
    ]
    assert [event.original for event in events] == ["report", None, None, "report", None]
    assert [event.tasks is None for event in events] == [False, True, True, False, True]
    assert all(event.decision == DECISION for event in events)
    assert scanned == [kills[0].uid, kills[3].uid]


def test_each_kill_has_its_own_report_by_default(tmp_path: Path) -> None:
    events = stored(tmp_path, [kill_at(time) for time in range(3)], 0)
    assert [(event.report_uid, event.original) for event in events] == [(None, "report")] * 3


def test_another_holder_has_its_own_report(tmp_path: Path) -> None:
    events = stored(tmp_path, [kill_at(0), kill_at(1, "/system.slice/a.service")], 10)
    assert [event.report_uid for event in events] == [None, None]


def test_containers_of_a_pod_have_their_own() -> None:
    reports = ReportInterval(10)

    def in_container(digit: str) -> Snapshot:
        return replace(SNAPSHOT, containers=EventContainers(Container(digit * 64)))

    reports.add(annotate(kill_at(0)), in_container("a"))
    assert reports.refer(kill_at(1), in_container("a")).report_uid == kill_at(0).uid
    assert reports.refer(kill_at(1), in_container("b")).report_uid is None


def test_a_kill_without_a_report_is_no_reference() -> None:
    reports = ReportInterval(10)
    reports.add(kill_at(0), SNAPSHOT)
    assert reports.refer(annotate(kill_at(1)), SNAPSHOT) == annotate(kill_at(1))


def test_few_containers_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_interval, "_MAX_CONTAINERS", 2)
    reports = ReportInterval(10)
    for number in range(3):
        reports.add(annotate(kill_at(0, f"/{number}")), SNAPSHOT)
    referred = [reports.refer(kill_at(1, f"/{n}"), SNAPSHOT).report_uid for n in range(3)]
    assert [uid is None for uid in referred] == [True, False, False]
