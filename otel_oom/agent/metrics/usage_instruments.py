"""Metrics of the sampling of usage: whether its budget is enough for each cgroup."""

from __future__ import annotations

from opentelemetry.metrics import Meter, Observation

from otel_oom.agent.stats import Stats
from otel_oom.otlp import semconv


def add_usage_instruments(meter: Meter, stats: Stats) -> None:
    """Export how many cgroups have a limit, and how many of them the last round sampled."""
    meter.create_observable_up_down_counter(
        semconv.METRIC_USAGE_CGROUPS,
        [lambda _: [Observation(stats.count_usage_cgroups()[0])]],
        "{cgroup}",
        "Cgroups whose usage is sampled.",
    )
    meter.create_observable_gauge(
        semconv.METRIC_USAGE_SAMPLED,
        [lambda _: [Observation(stats.count_usage_cgroups()[1])]],
        "{cgroup}",
        "Cgroups that had a sample in the last round.",
    )
