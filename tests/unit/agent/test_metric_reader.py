"""The times at which hosts that start together export their metrics."""

from __future__ import annotations

import random
import threading

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
)

from otel_oom.agent.metrics.reader import SpreadMetricReader

HOUR_MS = 3_600_000.0
LIMIT_S = 30.0


class Exported(MetricExporter):
    """Counts exports."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.first = threading.Event()

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> MetricExportResult:
        """Count."""
        del metrics_data, timeout_millis, kwargs
        self.count += 1
        self.first.set()
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is kept."""
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Nothing is open."""
        del timeout_millis, kwargs


def provide(exporter: Exported) -> MeterProvider:
    reader = SpreadMetricReader(exporter, export_interval_millis=HOUR_MS)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("count").add(1)
    return provider


def test_the_first_export_is_at_a_random_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after the interval, which would be the same for hosts that start together."""
    bounds: list[tuple[float, float]] = []

    def draw(first_s: float, last_s: float) -> float:
        bounds.append((first_s, last_s))
        return 0.05

    monkeypatch.setattr(random, "uniform", draw)
    exporter = Exported()
    provider = provide(exporter)
    assert exporter.first.wait(LIMIT_S)
    assert bounds == [(1800.0, 5400.0)]  # as wide as the interval: no time is more likely
    provider.shutdown()
    assert exporter.count == 2


def test_a_shutdown_before_it_exports_the_last_values() -> None:
    exporter = Exported()
    provide(exporter).shutdown()
    assert exporter.count == 1
