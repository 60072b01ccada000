"""BCC, compiled against a kernel's own headers, captures what libbpf captures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pytest
from msgspec import convert

from otel_oom.model.events import OomKill
from tests.testlib.kernel.bcc import comparable_fields
from tests.vmtest.bcc_kills import BCC_SCENARIOS
from tests.vmtest.guest import GuestRun
from tests.vmtest.scenario_result import SourceEvents

_CHANGING: Final = ("memory.", "memcg_usage.", "decision.memcg_usage.")
"""Fields that change while other processes run."""
_SLACK_BYTES: Final = 1 << 20

pytestmark = pytest.mark.headers


@pytest.fixture
def bcc(guest_run: GuestRun) -> dict[str, Any]:
    """Return the results of BCC on that kernel."""
    results: dict[str, Any] = guest_run.results["bcc"]
    return results


def test_bcc_attaches_to_tracepoint_and_kprobes(bcc: dict[str, Any]) -> None:
    assert bcc["hook"] == "raw_tp/mark_victim"
    assert bcc["decision_source"] == "kprobe/oom_kill_process"


@pytest.mark.parametrize("scenario", BCC_SCENARIOS)
def test_bcc_captures_what_libbpf_captures(bcc: dict[str, Any], scenario: str) -> None:
    """The same kills with equal fields, and the same exits."""
    result = bcc["scenarios"][scenario]
    events = [convert(result["events"][source], SourceEvents) for source in ("bcc", "libbpf")]
    by_bcc, by_libbpf = (_by_pid(source.kills) for source in events)
    assert set(by_bcc) == set(by_libbpf) == set(result["made"]["pids"])
    for pid, kill in by_bcc.items():
        ours, theirs = comparable_fields(kill), comparable_fields(by_libbpf[pid])
        assert {ours.pop("decision.source"), theirs.pop("decision.source")} == {
            "kprobe/oom_kill_process",
            "fentry/oom_kill_process",
        }
        assert ours.keys() == theirs.keys()
        different = {
            field: (value, theirs[field])
            for field, value in ours.items()
            if value != theirs[field]
            and not (field.startswith(_CHANGING) and abs(value - theirs[field]) < _SLACK_BYTES)
        }
        assert not different
    assert _pids_by_incident(by_bcc.values()) == _pids_by_incident(by_libbpf.values())
    exits = [sorted(source.exits, key=lambda exit_: exit_.tgid) for source in events]
    assert [*map(comparable_fields, exits[0])] == [*map(comparable_fields, exits[1])]


def _by_pid(kills: list[OomKill]) -> dict[int | None, OomKill]:
    assert len({kill.victim.tgid for kill in kills}) == len(kills)
    return {kill.victim.tgid: kill for kill in kills}


def _pids_by_incident(kills: Iterable[OomKill]) -> set[frozenset[int | None]]:
    """Return the victims of each incident."""
    incidents: dict[str, set[int | None]] = {}
    for kill in kills:
        incidents.setdefault(kill.incident or kill.uid, set()).add(kill.victim.tgid)
    return {frozenset(pids) for pids in incidents.values()}
