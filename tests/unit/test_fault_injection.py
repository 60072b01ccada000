"""The tally of the fault injection, and its table in docs/reliability.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fault_injection import table
from tests.fault_injection.fault_list import FAULTS
from tests.fault_injection.steps import STEPS, Step, resolve
from tests.fault_injection.storm import Death
from tests.fault_injection.tally import Tally, compute_tally
from tests.testlib.servers.backend import Received

S = 1_000_000_000


def log(pid: int, at_s: float, uid: str, event: str = "oom.kill", **more: object) -> Received:
    item = SimpleNamespace(event_name=event, time_unix_nano=int(at_s * S))
    attributes = {"process.pid": pid, "log.record.uid": uid, "oom.outcome": "killed", **more}
    return Received(item, attributes, {})


def span(pid: int, at_s: float, uid: str) -> Received:
    attributes = {"process.pid": pid, "log.record.uid": uid}
    return Received(SimpleNamespace(start_time_unix_nano=int(at_s * S)), attributes, {})


DEATHS = [Death(1, 10 * S, 11 * S), Death(2, 20 * S, 21 * S), Death(1, 30 * S, 31 * S)]
LOGS = [log(1, 10.5, "a"), log(2, 20.5, "b"), log(1, 30.5, "c")]
SPANS = [span(1, 10.5, "a"), span(2, 20.5, "b"), span(1, 30.5, "c")]


@pytest.fixture(autouse=True)
def _clock_of_a_new_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accepted difference grows with the time since boot, beyond the times of these deaths."""
    monkeypatch.setattr("tests.fault_injection.tally._LATE_NS", 2 * S)


def tally_of(logs: list[Received], spans: list[Received] = SPANS, counted: int = 3) -> Tally:
    """Return the tally of three deaths."""
    return compute_tally(logs, spans, DEATHS, counted=counted, since_ns=5 * S, crashes=7)


def test_delivered_kills_are_not_lost() -> None:
    """A pid that comes again later is another kill."""
    assert tally_of(LOGS) == Tally(
        7, kills=3, events=3, missed=0, duplicates=0, other_uid=0, lost=0
    )


def test_a_duplicate_must_have_the_same_uid() -> None:
    assert tally_of([*LOGS, LOGS[0]]).duplicates == 1
    with pytest.raises(AssertionError, match="several uids"):
        tally_of([*LOGS, log(1, 10.6, "d")])
    with pytest.raises(AssertionError, match="is of"):
        tally_of([*LOGS[:2], log(1, 30.5, "a")])
    with pytest.raises(AssertionError, match="the span d"):
        tally_of(LOGS, [*SPANS, span(2, 20.5, "d")])


def test_a_death_without_log_or_span_is_lost() -> None:
    """Also a kill that only the kernel counted."""
    assert tally_of(LOGS[1:]).lost == 1
    assert tally_of(LOGS, SPANS[:2]).lost == 1
    assert tally_of(LOGS, counted=5).lost == 2


def test_a_missed_kill_is_not_lost() -> None:
    """Events from before the trial do not count."""
    attributes = {"oom.missed.count": 1, "oom.missed.reason": "buffer_full"}
    missed = log(0, 40, "m", "oom.missed", **attributes)
    before = log(
        0, 40, "n", "oom.missed", **attributes | {"oom.missed.reason": "before_first_start"}
    )
    tally = tally_of([*LOGS[1:], missed, missed, before])
    assert (tally.missed, tally.lost, tally.events) == (1, 0, 2)
    assert tally_of([*LOGS, log(9, 4, "old")]).events == 3


def test_the_table_has_a_row_for_each_fault() -> None:
    """In their order."""
    assert table.faults_of() == [fault.description for fault in FAULTS]


def test_a_table_is_written_between_its_markers(tmp_path: Path) -> None:
    """The rest of the page is unchanged, and the written table can be read."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- faults -->\nold\n<!-- /faults -->\nafter\n", encoding="utf-8")
    tally = Tally(2, kills=3, events=3, missed=0, duplicates=1, other_uid=0, lost=0)
    table.write({"a fault": tally, "another": replace(tally, crashes=1000)}, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- faults -->\n")
    assert text.endswith("<!-- /faults -->\nafter\n")
    assert "| **all** | 1,002 | 6 | 6 | 0 | 2 | 0 | 0 |" in text
    assert table.faults_of(page) == ["a fault", "another"]


@pytest.mark.parametrize("step", STEPS, ids=[step.name for step in STEPS])
def test_every_step_is_a_function_of_the_product(step: Step) -> None:
    """A step whose function was renamed would never be passed."""
    owner, name = resolve(step)
    assert callable(getattr(owner, name))
