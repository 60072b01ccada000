"""An exporter of metrics from an installed package, with the metrics of kills added."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from otel_oom.agent.metrics.exporter import add_metrics, read_counters
from otel_oom.agent.metrics.kill_metrics import build_metrics
from otel_oom.export.installed import find_entry_point
from otel_oom.store import Store


class InstalledMetricExporter(MetricExporter):
    """Exporter of the entry point ``name``; the kills are cumulative, whatever it prefers."""

    def __init__(self, name: str, store: Store) -> None:
        """Load it. Raises LookupError, TypeError for a pull exporter, and what its package does."""
        exporter: Any = find_entry_point("metrics", name).load()()
        if not isinstance(exporter, MetricExporter):
            raise TypeError(f"{name} is a pull exporter, which nothing here serves")
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)  # noqa: SLF001  as the SDK's reader does
        self._exporter = exporter
        self._store = store

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> MetricExportResult:
        """Export once; the next interval has the sums again."""
        try:
            counters = read_counters(self._store)
        except sqlite3.Error:
            return MetricExportResult.FAILURE
        data = add_metrics(metrics_data, build_metrics(counters, time.time_ns()))
        return self._exporter.export(data, timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Flush it."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Shut it down."""
        self._exporter.shutdown(timeout_millis, **kwargs)
