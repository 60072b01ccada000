"""The kills of systemd-oomd's rules, of which the journal and D-Bus each know a part."""

from __future__ import annotations

import time

import pytest

from otel_oom.capture.userspace import oomd_reports
from otel_oom.capture.userspace.daemons import SYSTEMD_OOMD
from otel_oom.capture.userspace.oomd_reports import OomdReports, Report
from otel_oom.linux.systemd.bus_signal import BusSignal
from otel_oom.linux.systemd.journal_entry import JournalEntry

SLICE = "/user.slice"
VICTIM = f"{SLICE}/app.slice/editor.service"
BOOT_ID = "0b0f5c2e-1111-2222-3333-444455556666"
KILL_ALL = f"Rule 'heavy' conditions met for cgroup {SLICE}, taking action kill-all"
RULES = {
    "262, at once": KILL_ALL,
    "262, lasting": (
        f"Rule 'heavy' conditions met for cgroup {SLICE} (lasting 10s), taking action kill-all"
    ),
    "261": f"Rule 'heavy' conditions met for cgroup {SLICE} for 10s, taking action kill-all",
}
BY_PGSCAN = f"Rule 'heavy' conditions met for cgroup {SLICE}, taking action kill-by-pgscan"
CANDIDATES = (
    "Considered 3 cgroups for killing, top candidates were:",
    f"\tPath: {SLICE}/other.service",
    "\t\tMemory Pressure Limit: 0.00%",
    f"\tPath: {VICTIM}",
    "\t\tMemory Min: 0B",
)


def entry(message: str) -> JournalEntry:
    """Return an entry of the journal."""
    return JournalEntry("c", BOOT_ID, 1, 2, SYSTEMD_OOMD, 3, "/usr/lib/systemd-oomd", message)


def killed(path: str, reason: str) -> BusSignal:
    """Return the daemon's signal."""
    return BusSignal(oomd_reports.BUS_INTERFACE, "Killed", (path, reason), is_broadcast=True)


def add(reports: OomdReports, *messages: str) -> list[Report]:
    """Add messages, and return what they complete."""
    return [report for message in messages for report in reports.add_entry(entry(message))]


@pytest.fixture
def reports() -> OomdReports:
    """Return no reports."""
    return OomdReports(BOOT_ID)


@pytest.mark.parametrize("spelling", RULES)
def test_a_rule_and_its_signal_are_one_kill(reports: OomdReports, spelling: str) -> None:
    """In every spelling; the signal completes the journal's message."""
    assert add(reports, RULES[spelling]) == []
    (report,) = reports.add_signal(killed(SLICE, "rule heavy"))
    assert (report.parsed.path, report.parsed.original) == (SLICE, RULES[spelling])
    assert (report.parsed.killer.rule, report.parsed.killer.memcg) == ("heavy", SLICE)
    assert report.confirmed
    assert not reports.waits


def test_the_signal_has_the_cgroup_below_the_rules(reports: OomdReports) -> None:
    """The list of candidates can differ from what was killed."""
    assert add(reports, BY_PGSCAN, *CANDIDATES) == []
    (report,) = reports.add_signal(killed(f"{SLICE}/third.service", "rule heavy"))
    assert report.parsed.path == f"{SLICE}/third.service"
    assert report.parsed.killer.memcg == SLICE


def test_the_signal_can_come_first(reports: OomdReports) -> None:
    assert list(reports.add_signal(killed(VICTIM, "rule heavy"))) == []
    (report,) = add(reports, BY_PGSCAN)
    assert (report.parsed.path, report.parsed.original) == (VICTIM, BY_PGSCAN)


def test_each_rule_takes_one_signal(reports: OomdReports) -> None:
    """Those of a rule that acted twice, before the journal came."""
    for path in (VICTIM, SLICE):
        assert list(reports.add_signal(killed(path, "rule heavy"))) == []
    assert [report.parsed.path for report in add(reports, BY_PGSCAN)] == [VICTIM]
    assert [report.parsed.path for report in add(reports, BY_PGSCAN)] == [SLICE]
    assert not reports.waits


def test_without_a_signal_the_last_candidate_is_claimed(
    reports: OomdReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list can end without a kill: it is no confirmation."""
    monkeypatch.setattr(oomd_reports, "HOLD_S", 0.0)
    assert add(reports, BY_PGSCAN, *CANDIDATES) == []
    (report,) = reports.take_due()
    assert (report.parsed.path, report.selected, report.confirmed) == (VICTIM, True, False)


@pytest.mark.parametrize(
    "failure",
    [
        f"Failed to kill all processes in {SLICE}: Permission denied",
        f"oomd dry-run: Would have tried to kill /sys/fs/cgroup{SLICE} and all its descendants",
    ],
)
def test_a_rule_that_killed_nothing_is_no_kill(reports: OomdReports, failure: str) -> None:
    assert add(reports, KILL_ALL, failure) == []
    assert not reports.waits
    assert list(reports.flush()) == []


def test_a_signal_adds_nothing_to_the_journals_kill(reports: OomdReports) -> None:
    """Whichever comes first."""
    reports.note_reported(VICTIM)
    assert list(reports.add_signal(killed(VICTIM, "memory-pressure"))) == []
    assert not reports.waits
    assert list(reports.add_signal(killed(SLICE, "memory-used"))) == []
    reports.note_reported(SLICE)
    assert not reports.waits


def test_a_signal_alone_is_a_kill(reports: OomdReports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a daemon whose messages the journal does not have, or not in a spelling that is read."""
    monkeypatch.setattr(oomd_reports, "SIGNAL_HOLD_S", 0.0)
    assert list(reports.add_signal(killed(VICTIM, "memory-pressure"))) == []
    (report,) = reports.take_due()
    assert report.from_bus
    assert (report.parsed.path, report.parsed.killer.reason) == (VICTIM, "memory_pressure")
    assert abs(report.entry.unix_ns - time.time_ns()) < 60 * 10**9
    assert report.entry.cursor == ""


@pytest.mark.parametrize("path", ["\x01\x00\x7f", "", "no/path", "/" + 5000 * "x", "/a\nb"])
def test_no_path_is_no_cgroup(reports: OomdReports, path: str) -> None:
    """Releases up to 260 emit other bytes in its place."""
    assert list(reports.add_signal(killed(path, "oom"))) == []
    assert not reports.waits


def test_signals_are_bounded(reports: OomdReports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oomd_reports, "SIGNAL_HOLD_S", 0.0)
    for number in range(1000):
        assert list(reports.add_signal(killed(f"/{number}", "oom"))) == []
    assert len(list(reports.take_due())) == 64


def test_other_messages_are_no_rule(reports: OomdReports) -> None:
    assert add(reports, KILL_ALL[:-8], f"a {KILL_ALL}", f"{KILL_ALL}\n", 9001 * "x") == []
    assert not reports.waits
