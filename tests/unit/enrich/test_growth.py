"""Classification of usage of a known shape."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from otel_oom.enrich.growth import Growth, classify_growth, find_growth
from otel_oom.model.units import MIB, NS_PER_S
from otel_oom.model.usage import UsageHistory, UsageSeries
from tests.testlib.samples.usage import (
    INTERVAL_S,
    LIMIT,
    MARK_S,
    Usage,
    enriched_kill,
    leak,
    plateau,
    sample_series,
    spike,
)


def classify(series: UsageSeries, limit: int = LIMIT) -> Growth:
    return classify_growth(series, limit, MARK_S * NS_PER_S)


def seconds(ns: int | None) -> float:
    assert ns is not None
    return ns / NS_PER_S


@pytest.mark.parametrize("base_mib", [0, 20, 60])
@pytest.mark.parametrize("rate_mib", [0.2, 0.5, 2])
@pytest.mark.parametrize("before_s", [0.1, 4.9])
def test_steady_growth_is_a_leak(base_mib: int, rate_mib: float, before_s: float) -> None:
    """With the noise of a running program, from a usage that was the same for long."""
    noise = random.Random(1)  # noqa: S311  noise, the same in each run
    took_s = (128 - base_mib) / rate_mib

    def usage(time_s: float) -> float:
        grown = max(base_mib * MIB, LIMIT + rate_mib * MIB * time_s)
        return min(LIMIT, grown + noise.uniform(0, 3 * MIB))

    growth = classify(sample_series(usage, before_s=before_s))
    assert (growth.kind, growth.reason) == ("leak", None)
    assert growth.bytes_per_second == pytest.approx(rate_mib * MIB, rel=0.1)
    window_s = 119 * INTERVAL_S + before_s
    assert growth.from_first_sample == (took_s > window_s)
    # The noise alone hides the first moments of a slow growth.
    blur_s = INTERVAL_S + 3 / rate_mib
    assert seconds(growth.duration_ns) == pytest.approx(min(took_s, window_s), abs=blur_s)


def test_a_leak_since_the_start_of_its_cgroup_has_its_whole_time() -> None:
    growth = classify(sample_series(leak, count=12, created_s=-64))
    assert growth.kind == "leak"
    assert seconds(growth.duration_ns) == pytest.approx(64, abs=INTERVAL_S)
    assert seconds(growth.age_ns) == 64
    assert not growth.from_first_sample


@pytest.mark.parametrize("created_s", [-606, -603.5, -620])
def test_a_leak_long_after_the_start_of_its_cgroup_has_its_own_time(created_s: float) -> None:
    """The program has used 40 MiB from its start on."""
    series = sample_series(lambda time_s: max(40 * MIB, leak(time_s)), created_s=created_s)
    growth = classify(series)
    assert growth.kind == "leak"
    assert growth.bytes_per_second == pytest.approx(2 * MIB, rel=0.1)
    assert seconds(growth.duration_ns) == pytest.approx(44, abs=INTERVAL_S)


def test_a_leak_that_waits_at_the_limit_for_some_seconds_is_a_leak() -> None:
    growth = classify(sample_series(lambda time_s: min(LIMIT, leak(time_s + 10))))
    assert growth.kind == "leak"
    assert growth.bytes_per_second == pytest.approx(2 * MIB, rel=0.1)
    assert seconds(growth.time_above_90_ns) == pytest.approx(16.4, abs=0.1)


@pytest.mark.parametrize("before_s", [1.1, 4.9])
def test_a_sudden_rise_is_a_spike_within_the_time_between_its_samples(before_s: float) -> None:
    growth = classify(sample_series(spike, before_s=before_s))
    assert (growth.kind, growth.start_bytes) == ("spike", 12 * MIB)
    assert seconds(growth.duration_ns) == pytest.approx(before_s)
    assert growth.bytes_per_second is None


def test_a_cgroup_that_is_younger_than_a_sample_has_a_spike() -> None:
    growth = classify(sample_series(spike, count=0, created_s=-3))
    assert (growth.kind, growth.start_bytes) == ("spike", 0)
    assert seconds(growth.duration_ns) == 3


def test_a_minute_at_the_limit_is_a_plateau() -> None:
    growth = classify(sample_series(plateau))
    assert (growth.kind, growth.reason) == ("plateau", None)
    assert seconds(growth.time_above_90_ns) == pytest.approx(62, abs=INTERVAL_S)


def hump(time_s: float) -> float:
    """Be near the limit for some seconds, a minute before the kill."""
    if time_s < -60:
        return 0.45 * LIMIT
    return 0.95 * LIMIT if time_s < -50 else 0.55 * LIMIT


def swing(time_s: float) -> float:
    """Rise slowly, and swing by 15 % of the limit around that."""
    return LIMIT * (0.85 + 0.4 * time_s / 600 + (0, 0.15, -0.15)[int(time_s // 5) % 3])


@pytest.mark.parametrize(
    ("usage", "changes", "reason"),
    [
        (spike, {"count": 0}, "no_samples"),
        (spike, {"count": 0, "created_s": -60}, "interval_too_long"),
        (spike, {"count": 9, "interval_s": 60, "before_s": 30}, "interval_too_long"),
        (lambda _: LIMIT * 1.5, {}, "limit_lowered"),
        (lambda time_s: LIMIT * 0.6 * (1 + time_s / 600), {}, "unsteady"),
        (lambda time_s: LIMIT * (0.4 if time_s < -25 else 0.7), {}, "unsteady"),
        (swing, {}, "unsteady"),
        (hump, {}, "unsteady"),
    ],
)
def test_any_other_growth_has_its_reason(
    usage: Usage, changes: dict[str, float], reason: str
) -> None:
    growth = classify(sample_series(usage, **changes))  # type: ignore[arg-type]
    assert (growth.kind, growth.reason) == ("unknown", reason)


def test_a_value_that_is_repeated_for_long_hides_how_fast_it_rose() -> None:
    series = replace(sample_series(spike), max_gap_ns=60 * NS_PER_S)
    assert classify(series).reason == "interval_too_long"


def test_samples_after_the_kill_do_not_count() -> None:
    """By then its memory may be free."""
    series = sample_series(lambda time_s: leak(time_s) if time_s < 0 else MIB, before_s=-3)
    assert classify(series).kind == "leak"


@pytest.mark.parametrize("interval_s", [1.0, 5.0])
def test_approaches_are_interpolated(interval_s: float) -> None:
    """2 MiB a second pass half of 128 MiB 32 seconds before the kill."""
    growth = classify(sample_series(leak, interval_s=interval_s))
    times = {each.percent: each.boottime_ns / NS_PER_S - MARK_S for each in growth.approaches}
    assert times == pytest.approx({50: -32, 75: -16, 90: -6.4}, abs=0.01)


def test_a_share_that_was_passed_before_all_samples_has_no_time() -> None:
    growth = classify(sample_series(leak, count=2))
    assert [each.percent for each in growth.approaches] == [90]


def test_a_jump_between_two_samples_has_no_approach() -> None:
    """It can have been at any moment between both."""
    assert classify(sample_series(spike)).approaches == ()


def test_of_several_rises_the_last_one_counts() -> None:
    """A program that frees most of its memory each two minutes."""
    growth = classify(sample_series(lambda time_s: (time_s % 120) / 120 * LIMIT))
    assert growth.kind == "leak"
    assert growth.bytes_per_second == pytest.approx(LIMIT / 120, rel=0.1)
    assert growth.approaches[0].boottime_ns / NS_PER_S - MARK_S == pytest.approx(-60, abs=0.1)


def test_an_out_of_memory_host_grows_by_its_own_series() -> None:
    series = sample_series(spike, path="/docker"), sample_series(leak, path=None)
    kill = enriched_kill(UsageHistory(limit=series[0], host=series[1]), of_host=True)
    assert kill.growth is not None
    assert kill.growth.kind == "leak"


def test_without_a_history_or_of_some_nodes_alone_there_is_no_growth() -> None:
    history = UsageHistory(host=sample_series(leak, path=None))
    kill = enriched_kill(history, of_host=True)
    decision = kill.event.decision
    assert decision is not None
    of_nodes = replace(kill.event, decision=replace(decision, constraint="cpuset"))
    assert find_growth(of_nodes, kill.snapshot, "host") is None
    assert find_growth(kill.event, replace(kill.snapshot, usage_history=None), "host") is None
