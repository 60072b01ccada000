"""The attributes by which a kill counts, and the bucket of its memory."""

from __future__ import annotations

import json
from dataclasses import replace as changed

import pytest
from msgspec.structs import replace

from otel_oom.config.metrics import DEFAULT_OWNER_NAMES
from otel_oom.enrich.growth import Growth
from otel_oom.otlp.event import Event, build_event
from otel_oom.otlp.kill_counts import count_kills, count_memory
from otel_oom.store.types import KillCount
from tests.testlib.samples.events import sample_enriched_kill

MIB = 1 << 20
ENRICHED = sample_enriched_kill()
EVENT = build_event(ENRICHED)
BASE = {
    "oom.outcome": "killed",
    "oom.decision.constraint": "memcg",
    "oom.limit.scope": "ancestor",
    "oom.cause": "single_process",
}


def count(event: Event | None, *names: str) -> KillCount:
    kills = count_kills(ENRICHED, event, names or DEFAULT_OWNER_NAMES)
    assert kills is not None
    return kills


def owner(event: Event, *names: str) -> dict[str, object]:
    """Return the attributes that only the owner has."""
    label = json.loads(count(event, *names).label)
    assert label.items() >= BASE.items()
    return {name: value for name, value in label.items() if name not in BASE}


def test_beyond_the_limit_all_but_the_owner_stays() -> None:
    kills = count(EVENT)
    assert json.loads(kills.label) == {**BASE, "service.name": "java"}
    assert json.loads(kills.overflow_label) == {**BASE, "otel.metric.overflow": True}
    assert (kills.count, kills.last_unix_ns) == (1, ENRICHED.event.time_unix_ns)


def test_an_event_that_is_not_sent_has_no_owner() -> None:
    """Nor does one without the attributes: neither counts towards the limit."""
    for kills in (count(None), count(EVENT, "team"), count(EVENT, "oom.outcome")):
        assert (json.loads(kills.label), kills.overflow_label) == (BASE, "")


def test_attributes_of_event_and_resource_can_name_the_owner() -> None:
    event = changed(EVENT, resource={**EVENT.resource, "team": "payments", "tier": 1})
    names = ("team", "tier", "oom.victim.comm", "oom.limit.scope", "nowhere")
    assert owner(event, *names) == {"team": "payments", "tier": 1, "oom.victim.comm": "java"}


def test_the_order_of_the_names_makes_no_other_series() -> None:
    event = changed(EVENT, resource={**EVENT.resource, "team": "payments", "tier": 1})
    assert count(event, "team", "tier") == count(event, "tier", "team")


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        ("x" * 300, "x" * 256),
        ("lone \udc80 surrogate", "lone ? surrogate"),
        (("a", "b"), "a,b"),
        (True, True),
        (1.5, 1.5),
    ],
)
def test_a_value_is_short_and_can_be_encoded(value: str, counted: object) -> None:
    event = changed(EVENT, resource={**EVENT.resource, "team": value})
    assert owner(event, "team") == {"team": counted}


@pytest.mark.parametrize(
    ("resident", "bucket"),
    [(0, 0), (MIB, 0), (MIB + 1, 1), (2 * MIB, 1), (1 << 40, 20), ((1 << 40) + 1, 21)],
)
def test_the_upper_bound_is_in_its_bucket(resident: int, bucket: int) -> None:
    """As OTLP has it: a bound belongs to the bucket below."""
    assert ENRICHED.event.memory
    memory = replace(ENRICHED.event.memory, anon=resident, file=0, shmem=0)
    counts = count_memory(replace(ENRICHED, event=replace(ENRICHED.event, memory=memory)))
    label = '{"oom.limit.scope": "ancestor"}'
    assert counts == {
        f"victim_memory.{bucket}.{label}": 1,
        f"victim_memory.sum.{label}": resident,
    }


def test_memory_that_is_not_known_does_not_count() -> None:
    event = replace(ENRICHED.event, memory=None)
    assert count_memory(replace(ENRICHED, event=event)) == {}


def test_a_kill_counts_by_its_growth_where_that_is_known() -> None:
    kill = replace(ENRICHED, growth=Growth("leak"))
    kills = count_kills(kill, build_event(kill), DEFAULT_OWNER_NAMES)
    assert kills is not None
    assert json.loads(kills.label)["oom.growth.kind"] == "leak"
    assert json.loads(kills.overflow_label)["oom.growth.kind"] == "leak"
    assert "oom.growth.kind" not in json.loads(count(EVENT).label)
