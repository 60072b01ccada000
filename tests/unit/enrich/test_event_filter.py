"""Rules of exclusion and inclusion: which events are sent."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.config.filters import EXCLUDE, INCLUDE, read_filters
from otel_oom.enrich.event import enrich_event
from otel_oom.enrich.event_filter import EventFilter
from otel_oom.enrich.types import EnrichedEvent, VictimOutcome
from otel_oom.model.events import Panic
from otel_oom.model.loss import DroppedEvents
from otel_oom.model.snapshot import Snapshot
from tests.testlib.samples.events import DROPPED, HOST, NO_VICTIM, PANIC, sample_enriched_kill

KILL = replace(sample_enriched_kill(), cgroup_path="/kubepods.slice/pod1/a", limit_scope="pod")
COMM = KILL.event.victim.comm
UNKNOWN = replace(
    KILL,
    event=replace(KILL.event, victim=replace(KILL.event.victim, comm=None)),
    cgroup_path="",
    limit_scope=None,
)


def exclusion(enriched: EnrichedEvent, exclude: str = "", include: str = "") -> str | None:
    filters = read_filters({EXCLUDE: exclude, INCLUDE: include})
    return EventFilter(filters).find_exclusion(enriched)


@pytest.mark.parametrize(
    ("rules", "matches"),
    [
        ("cgroup=/kubepods*", True),
        ("cgroup=/kubepods.slice/*/a", True),
        ("cgroup=/kubepods", False),
        ("cgroup=kubepods*", False),
        (f"comm={COMM}", True),
        (f"comm={(COMM or '').upper()}", False),
        ("comm=?*", True),
        ("scope=pod", True),
        ("scope=own", False),
        ("cgroup=/kubepods*,scope=pod", True),
        ("cgroup=/kubepods*,scope=own", False),
        ("scope=own;scope=pod", True),
        ("scope=own;scope=host", False),
    ],
)
def test_all_conditions_of_one_rule_must_hold(rules: str, matches: bool) -> None:  # noqa: FBT001
    assert exclusion(KILL, exclude=rules) == (EXCLUDE if matches else None)
    assert exclusion(KILL, include=rules) == (None if matches else INCLUDE)


def test_an_exclusion_comes_before_an_inclusion() -> None:
    assert exclusion(KILL, exclude="scope=pod", include="scope=pod") == EXCLUDE


@pytest.mark.parametrize("rules", ["cgroup=*", "comm=*", "scope=host", "cgroup=*,comm=*"])
def test_what_is_not_known_excludes_no_event(rules: str) -> None:
    assert exclusion(UNKNOWN, exclude=rules) is None
    assert exclusion(UNKNOWN, include=rules) is None


def test_a_known_condition_that_does_not_hold_decides() -> None:
    half_known = replace(UNKNOWN, limit_scope="host")
    assert exclusion(half_known, include="comm=*,scope=own") == INCLUDE
    assert exclusion(half_known, exclude="comm=*,scope=host") is None


def test_an_event_without_a_victim_has_the_cgroup_of_the_limit() -> None:
    event = enrich_event(NO_VICTIM, Snapshot(process_found=False), VictimOutcome(), 0, HOST)
    assert NO_VICTIM.decision
    assert NO_VICTIM.decision.memcg
    path = NO_VICTIM.decision.memcg.path
    assert exclusion(event, exclude=f"cgroup={path}") == EXCLUDE
    assert exclusion(event, include="cgroup=/no/such") == INCLUDE
    assert exclusion(event, include="comm=other") is None


@pytest.mark.parametrize("event", [DROPPED, PANIC])
def test_what_is_about_the_agent_or_the_host_is_always_sent(event: DroppedEvents | Panic) -> None:
    enriched = enrich_event(event, Snapshot(process_found=False), VictimOutcome(), 0, HOST)
    assert exclusion(enriched, exclude="cgroup=*;comm=*", include="cgroup=/no/such") is None
