"""What BCC compiles against a kernel's own headers tells what libbpf tells."""

from __future__ import annotations

from typing import Any, Final

import pytest
from msgspec import convert

from otel_oom.model.events import OomKill, VictimExit
from tests.testlib.kernel.bcc import comparable_fields
from tests.vmtest.bcc_kills import PLAYED
from tests.vmtest.guest import Run

_HELD_BACK: Final = 1 << 20
"""More than a guest's CPUs can have counted between two programs on one hook."""

_MOVING: Final = ("memory.", "memcg_usage.", "decision.memcg_usage.")
"""What goes on changing while others run."""


pytestmark = pytest.mark.headers


@pytest.fixture
def compiled(run: Run) -> dict[str, Any]:
    """What came out of it on that kernel."""
    found: dict[str, Any] = run.results["compiled"]
    return found


def test_bcc_takes_the_hooks_that_it_knows(compiled: dict[str, Any]) -> None:
    """The mark by its tracepoint, the decision by kprobes."""
    assert compiled["hook"] == "raw_tp/mark_victim"
    assert compiled["decision_source"] == "kprobe/oom_kill_process"


@pytest.mark.parametrize("name", PLAYED)
def test_bcc_tells_what_libbpf_tells(compiled: dict[str, Any], name: str) -> None:
    """The same kills, each field of them alike; and the same ends."""
    played = compiled["played"][name]
    bcc, libbpf = (played["told"][source] for source in ("bcc", "libbpf"))
    one, other = _kills(bcc), _kills(libbpf)
    assert set(one) == set(other) == set(played["made"]["pids"])
    for pid, kill in one.items():
        ours, theirs = comparable_fields(kill), comparable_fields(other[pid])
        assert {ours.pop("decision.source"), theirs.pop("decision.source")} == {
            "kprobe/oom_kill_process",
            "fentry/oom_kill_process",
        }
        assert ours.keys() == theirs.keys()
        different = {
            field: (value, theirs[field])
            for field, value in ours.items()
            if value != theirs[field]
            and not (field.startswith(_MOVING) and abs(value - theirs[field]) < _HELD_BACK)
        }
        assert not different
    assert _incidents(one) == _incidents(other)
    assert _ends(bcc) == _ends(libbpf)


def _kills(told: dict[str, Any]) -> dict[int | None, OomKill]:
    kills = [convert(kill, OomKill) for kill in told["kills"]]
    assert len({kill.victim.tgid for kill in kills}) == len(kills)
    return {kill.victim.tgid: kill for kill in kills}


def _incidents(kills: dict[int | None, OomKill]) -> set[frozenset[int | None]]:
    """The victims of each incident."""
    found: dict[str, set[int | None]] = {}
    for pid, kill in kills.items():
        found.setdefault(kill.incident or kill.uid, set()).add(pid)
    return {frozenset(pids) for pids in found.values()}


def _ends(told: dict[str, Any]) -> list[dict[str, Any]]:
    ends = (convert(exit_, VictimExit) for exit_ in told["exits"])
    return [comparable_fields(end) for end in sorted(ends, key=lambda end: end.tgid)]
