"""Kills that systemd counts for a unit while the agent runs, and no event reports."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from otel_oom.agent.unit_kill_watch import UnitKillWatch
from otel_oom.enrich.event import enrich_missed_kills
from otel_oom.linux import clock
from otel_oom.linux.systemd.unit_kills import UnitKills
from otel_oom.model.events import UserspaceKill
from otel_oom.model.loss import MissedKills
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import Capture, Memcg, UserspaceOomDaemon
from otel_oom.otlp.attributes import missed_attributes
from otel_oom.otlp.body import missed_body
from otel_oom.store import Store
from tests.testlib.samples.events import HOST, sample_kill

WEB = "web.service"
PATH = f"/system.slice/{WEB}"


def compare(store: Store, *counts: list[UnitKills] | None) -> list[MissedKills]:
    """Return what is missed by successive counts."""
    left = list(counts)
    watch = UnitKillWatch(store, lambda: left.pop(0))
    return [event for _ in counts for event in watch.compare() or ()]


def web(oomd: int, *, kernel: int = 0, is_delegated: bool = False) -> list[UnitKills]:
    return [UnitKills(WEB, PATH, kernel, oomd, is_delegated)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_kill_without_an_event_is_one(store: Store) -> None:
    """Once, with the unit and the killer; the kernel's count, which is compared, has no part."""
    with store:
        (missed,) = compare(store, [], web(2), web(2), web(2))
        assert (missed.unit, missed.killer, missed.count) == (WEB, "systemd-oomd", 2)
        assert [row.kind for row in store.history.page_before(None)] == ["missed"]
        assert store.tally.read(clock.boot_id()).missed == 0
    enriched = enrich_missed_kills(missed, 0, HOST)
    assert missed_attributes(enriched) == {
        "log.record.uid": missed.uid,
        "oom.missed.count": 2,
        "oom.missed.reason": "unknown",
        "oom.missed.upper_bound": True,
        "oom.killer.name": "systemd-oomd",
        "oom.victim.systemd.unit": WEB,
    }
    assert missed_body(missed).startswith(
        "Up to 2 OOM kills in web.service by systemd-oomd, counted by systemd, were not captured"
    )


@pytest.mark.parametrize("late", [False, True])
def test_a_kill_with_an_event_is_none(store: Store, *, late: bool) -> None:
    """The event may be stored after the count was read; its cgroup is the unit's own or below."""
    kill = UserspaceKill(
        boot_id=clock.boot_id(),
        boottime_ns=1,
        time_unix_ns=2,
        trigger=None,
        capture=Capture("journal", "systemd-journald", None, 1),
        killer=UserspaceOomDaemon("systemd-oomd"),
        victim=None,
        memcg=Memcg(None, f"{PATH}/worker"),
        completed=True,
        original="Killed",
    )
    with store:
        counts = [[], web(1), web(1), web(1)]
        watch = UnitKillWatch(store, lambda: counts.pop(0))
        assert watch.compare() == []
        if not late:
            store.insert(kill, Snapshot(process_found=False))
        assert watch.compare() == []
        if late:
            store.insert(kill, Snapshot(process_found=False))
        assert watch.compare() == []
        assert watch.compare() == []


def test_other_counts_are_no_loss(store: Store) -> None:
    """Of before the agent, of the kernel, of a slice, and what the owner of a cgroup can write."""
    with store:
        assert compare(store, web(3), web(3), web(3)) == []
        assert compare(store, [], web(0, kernel=5), web(0, kernel=5)) == []
        slices = [UnitKills("system.slice", "/system.slice", 0, 4)]
        assert compare(store, [], slices, slices) == []
        assert compare(store, [], web(9, is_delegated=True), web(9, is_delegated=True)) == []
        assert compare(store, web(2), [], []) == []


def test_a_unit_that_was_started_again_counts_from_zero(store: Store) -> None:
    with store:
        assert [event.count for event in compare(store, web(5), web(1), web(1))] == [1]


def test_a_kill_by_the_kernel_explains_none_by_a_daemon(store: Store) -> None:
    with store:
        store.insert(sample_kill(memcg=Memcg(1, PATH)), Snapshot(process_found=False))
        assert len(compare(store, [], web(1), web(1))) == 1


def test_systemd_that_counts_nothing_ends_the_watch(store: Store) -> None:
    with store:
        assert UnitKillWatch(store, lambda: None).compare() is None


def test_no_unit_is_reported_twice_when_another_cannot_be_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [UnitKills(unit, f"/system.slice/{unit}", 0, 1) for unit in (WEB, "db.service")]
    left = [[], counts, counts, counts]
    watch = UnitKillWatch(store, lambda: left.pop(0))
    insert = store.insert

    def insert_web(event: MissedKills, snapshot: Snapshot) -> bool:
        if event.unit != WEB:
            raise sqlite3.OperationalError
        return insert(event, snapshot)

    with store:
        assert watch.compare() == watch.compare() == []
        with monkeypatch.context() as failing:
            failing.setattr(store, "insert", insert_web)
            with pytest.raises(sqlite3.OperationalError):
                watch.compare()
        missed = watch.compare() or []
    assert [event.unit for event in missed] == ["db.service"]


def test_units_beyond_those_that_are_reported_are_counted_in_the_log(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    counts = [UnitKills(f"u{number}.service", "/", 0, 2) for number in range(70)]
    with store:
        assert len(compare(store, [], counts, counts, counts)) == 64
    assert caplog.messages[64:] == [
        "Missed kills: more units than are reported: left_out=6 kills=12"
    ]
