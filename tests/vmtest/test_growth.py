"""Real kills after growth that the victims record: each has its kind, on cgroup v2 and v1.

The guest is that of `test_apparmor`. The agent samples usage with its defaults. A guest whose
processors are busy elsewhere notes its delays: they widen what is compared, to the same record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pytest
from msgspec import convert

from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.growth import Growth
from otel_oom.enrich.types import EnrichedKill, VictimOutcome
from otel_oom.model.events import OomKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.units import MIB, NS_PER_S
from otel_oom.otlp.body import kill_body
from tests.testlib.evidence import check_evidence
from tests.testlib.samples.events import HOST as HOST_OF_TEST
from tests.testlib.samples.otlp import log_attributes, span
from tests.vmtest.boots import Boots, needs_guest
from tests.vmtest.growth import DISK_MIB, HOST, LIMIT, PLATEAU_S
from tests.vmtest.test_apparmor import KERNEL, boot

INTERVAL_S: Final = 5.0
"""The default of `OTEL_OOM_USAGE_INTERVAL`."""
MAX_SPIKE_S: Final = 15.0
"""A rise that takes longer is no spike; docs/how-it-works.md has the number."""
STARVED_S: Final = 1.0
"""A delay of a guest whose processors were busy elsewhere; samples are then late, too."""
_DELAYS: Final = 3
"""Delays in a row that one sample can have."""

every_version = pytest.mark.parametrize("version", ["v2", "v1"])


@dataclass(frozen=True)
class Kill:
    """A kill as the victim's own record has it, and as the agent has stored it."""

    record: list[tuple[int, int]]
    """Times, in nanoseconds, and the MiB that the victim had used by then."""
    created_ns: int
    delay_s: float
    """The longest delay of the guest, from the creation of the cgroup to the kill."""
    enriched: EnrichedKill

    @property
    def growth(self) -> Growth:
        """The growth up to the limit."""
        assert self.enriched.growth is not None
        return self.enriched.growth

    @property
    def slack_s(self) -> float:
        """The seconds by which a time of the agent can differ."""
        return INTERVAL_S + _DELAYS * self.delay_s

    def seconds_since(self, mib: float) -> float:
        """Return the seconds from the moment at which the victim used so much to the kill."""
        reached_ns = next(time_ns for time_ns, used_mib in self.record if used_mib >= mib)
        return (self.enriched.event.boottime_ns - reached_ns) / NS_PER_S

    def has_kind(self, expected: str, *, may_differ: bool = False) -> bool:
        """Return whether the growth has this kind; it must, but in a starved guest."""
        if not may_differ and self.delay_s <= STARVED_S:
            assert self.growth.kind == expected, (self.growth, self.enriched.snapshot.usage_history)
        return self.growth.kind == expected


@pytest.fixture(params=[pytest.param(KERNEL, marks=needs_guest(boot, KERNEL, waits=True))])
def results(boots: Boots, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the results of the guest."""
    growth: dict[str, Any] = boots.results((boot, request.param))["growth"]
    return growth


def find_kill(results: dict[str, Any], version: str, name: str) -> Kill:
    """Return the one stored kill of a scenario."""
    made = results[version]["made"][name]
    (row,) = (
        row
        for row in results[version]["stored"]
        if row["event"].get("victim", {}).get("tgid") == made["pid"]
    )
    event, snapshot = convert(row["event"], OomKill), convert(row["snapshot"], Snapshot)
    record = convert(made["record"], list[tuple[int, int]])
    begun_ns, dead_ns = record[0][0], made["dead_ns"]
    assert begun_ns < event.boottime_ns < dead_ns
    created_ns = made.get("created_ns", begun_ns)
    delays_ns = [
        delay_ns
        for time_ns, delay_ns in results[version]["delays"]
        if created_ns <= time_ns and time_ns - delay_ns <= dead_ns
    ]
    enriched = enrich_kill(event, snapshot, VictimOutcome(), event.time_unix_ns, HOST_OF_TEST)
    return Kill(record, created_ns, max(delays_ns, default=0) / NS_PER_S, enriched)


@every_version
def test_a_leak_is_known_by_its_rate_and_time(results: dict[str, Any], version: str) -> None:
    """As the victim's own record has both."""
    kill = find_kill(results, version, "leak")
    if kill.has_kind("leak"):
        took_s, (_, last_mib) = kill.seconds_since(0), kill.record[-1]
        tolerance = 0.1 + (kill.slack_s - INTERVAL_S) / took_s
        rate = last_mib * MIB / took_s
        assert kill.growth.bytes_per_second == pytest.approx(rate, rel=tolerance)
        duration_s = (kill.growth.duration_ns or 0) / NS_PER_S
        assert duration_s == pytest.approx(took_s, abs=kill.slack_s)
        assert "after its usage grew " in kill_body(kill.enriched)


@every_version
def test_the_approach_of_a_leak_is_on_the_span(results: dict[str, Any], version: str) -> None:
    """Each share of the limit at the time of the victim's own record, within one interval."""
    kill = find_kill(results, version, "leak")
    sent = span(kill.enriched)
    approaches = [event for event in sent.events if event.name == "oom.limit.approached"]
    percents = [event.attributes[0].value.int_value for event in approaches]
    assert percents == [50, 75, 90] or kill.delay_s > STARVED_S
    for event, percent in zip(approaches, percents, strict=True):
        before_s = (kill.enriched.event.time_unix_ns - event.time_unix_nano) / NS_PER_S
        expected_s = kill.seconds_since(LIMIT / MIB * percent / 100)
        assert before_s == pytest.approx(expected_s, abs=kill.slack_s)
    if approaches:
        assert sent.start_time_unix_nano == approaches[0].time_unix_nano


@every_version
def test_a_spike_is_known_by_its_time(results: dict[str, Any], version: str) -> None:
    """From half of the limit to near it; two samples can hide one interval each."""
    kill = find_kill(results, version, "spike")
    half_s, near_s = (kill.seconds_since(LIMIT / MIB * share) for share in (0.5, 0.9))
    is_slow = half_s + kill.slack_s > MAX_SPIKE_S
    if kill.has_kind("spike", may_differ=is_slow):
        duration_s = (kill.growth.duration_ns or 0) / NS_PER_S
        assert half_s - near_s <= duration_s <= half_s + kill.slack_s
        assert "after its usage rose from" in kill_body(kill.enriched)


@every_version
def test_a_plateau_is_known_by_its_time_at_the_limit(results: dict[str, Any], version: str) -> None:
    """A minute of page cache at the limit, then anonymous memory."""
    kill = find_kill(results, version, "plateau")
    assert kill.seconds_since(DISK_MIB) > PLATEAU_S
    if kill.has_kind("plateau"):
        above_s = (kill.growth.time_above_90_ns or 0) / NS_PER_S
        expected_s = kill.seconds_since(LIMIT / MIB * 0.9)
        assert above_s == pytest.approx(expected_s, abs=kill.slack_s)
        assert "at 90 % or more" in kill_body(kill.enriched)


@every_version
def test_a_host_that_was_filled_at_once_has_a_spike(results: dict[str, Any], version: str) -> None:
    """By the series of the host, which is sent for it alone."""
    kill = find_kill(results, version, HOST)
    assert kill.enriched.limit_scope == "host"
    took_s = kill.seconds_since(0)
    if kill.has_kind("spike", may_differ=took_s + kill.slack_s > MAX_SPIKE_S):
        assert (kill.growth.duration_ns or 0) / NS_PER_S <= took_s + kill.slack_s
        assert "out of memory, after its usage rose from" in kill_body(kill.enriched)
    assert log_attributes(kill.enriched)["oom.growth.host.interval"] == INTERVAL_S


@every_version
@pytest.mark.parametrize("name", ["leak", "spike", "plateau"])
def test_the_age_is_that_of_the_cgroup(results: dict[str, Any], version: str, name: str) -> None:
    """And the series is that of the limit's cgroup, an interval apart."""
    kill = find_kill(results, version, name)
    age_ns = kill.enriched.event.boottime_ns - kill.created_ns
    assert kill.growth.age_ns == pytest.approx(age_ns, abs=kill.slack_s * NS_PER_S)
    attributes = log_attributes(kill.enriched)
    assert attributes["oom.growth.limit.interval"] == INTERVAL_S
    assert attributes["oom.growth.kind"] == kill.growth.kind


@every_version
@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("leak", "leak"),
        ("spike", "spike"),
        ("plateau", "single_process"),
        (HOST, "host_memory"),
    ],
)
def test_the_cause_is_that_of_the_growth(
    results: dict[str, Any], version: str, name: str, cause: str
) -> None:
    """Decided by what the attributes of the same event say."""
    kill = find_kill(results, version, name)
    attributes = log_attributes(kill.enriched)
    evidence = check_evidence(attributes)
    if name in {HOST, kill.growth.kind}:
        assert attributes["oom.cause"] == cause
        assert (evidence.get("oom.growth.kind") == name) == (name in {"leak", "spike"})
