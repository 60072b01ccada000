"""The official SDK's metrics over this agent's own transport.

The official exporter over HTTP brings a client of its own, with OpenSSL: 12 MB more, measured, of
the 32 that the agent may take. The official reader, data model and encoder take less than one.
So this does what :mod:`otel_oom.export` does for logs and spans: the bytes are the official
encoder's, sent by the same client, by the same variables.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

from otel_oom.agent.metrics import kill_counter
from otel_oom.export.result import ExportResponse, ExportResult, Transport
from otel_oom.store.counters import NO_BOOT, START_TIME

if TYPE_CHECKING:
    from otel_oom.config.metrics import MetricsConfig
    from otel_oom.store import Store

_LOG = logging.getLogger(__name__)

_DELTA: Final[dict[str, tuple[type, ...]]] = {
    "cumulative": (),
    "delta": (Counter, ObservableCounter, Histogram),
    "lowmemory": (Counter, Histogram),
}
"""Which instruments tell what has been since the last time, by the preference for it."""


class Exporter(MetricExporter):
    """Sends what the SDK has collected, and the durable count of kills with it.

    A failure is said once, not every minute, and is nobody else's concern: what is cumulative
    tells the same the next time.
    """

    def __init__(self, settings: MetricsConfig, transport: Transport, store: Store) -> None:
        """Send through ``transport`` what ``store`` counts and the SDK collects."""
        super().__init__(
            preferred_temporality=dict.fromkeys(
                _DELTA[settings.temporality], AggregationTemporality.DELTA
            ),
            preferred_aggregation=(
                {Histogram: ExponentialBucketHistogramAggregation()} if settings.exponential else {}
            ),
        )
        self._settings = settings
        self._transport = transport
        self._store = store
        self._delta = settings.temporality == "delta"
        self._failing = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_kwargs: object
    ) -> MetricExportResult:
        """Send once, within the endpoint's own timeout."""
        del timeout_millis  # the endpoint's, which the user set for metrics, holds
        now = time.time_ns()
        try:
            counters = self._store.counters(NO_BOOT) | self._store.counters(START_TIME)
        except sqlite3.Error as error:
            reason = f"the store can't be read: {error}"
            self._report(ExportResponse(ExportResult.RETRYABLE, reason))
            return MetricExportResult.FAILURE
        count = kill_counter.counted(counters)
        told = kill_counter.told(counters) if self._delta else None
        data = _joined(metrics_data, kill_counter.metric(count, told, now))
        answer = self._transport.send(encode_metrics(data).SerializeToString())
        self._report(answer)
        if answer.verdict is not ExportResult.ACCEPTED:
            return MetricExportResult.FAILURE
        if self._delta:
            # Where the disk takes nothing now, which the store says, it is told once more.
            with suppress(sqlite3.Error):
                self._store.set_counters(NO_BOOT, kill_counter.as_told(count, now))
        return MetricExportResult.SUCCESS

    def _report(self, answer: ExportResponse) -> None:
        failing = answer.verdict is not ExportResult.ACCEPTED or answer.rejected > 0
        if failing and not self._failing:
            _LOG.warning(
                "%s does not take the agent's own metrics (%s); they are tried again every %g s. "
                "Kills are not concerned. OTEL_METRICS_EXPORTER=none sends no metrics.",
                self._settings.endpoint.redacted_url,
                answer.reason,
                self._settings.interval_s,
            )
        elif self._failing and not failing:
            _LOG.info("%s takes metrics again", self._settings.endpoint.redacted_url)
        self._failing = failing

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is kept here."""
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_kwargs: object) -> None:
        """End a request that is under way, and send no more."""
        del timeout_millis
        self._transport.close()


def _joined(data: MetricsData, metric: Metric) -> MetricsData:
    """``data`` with one more metric, in the one resource and scope that it has."""
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    scope = replace(scope, metrics=[metric, *scope.metrics])
    return MetricsData([replace(resource, scope_metrics=[scope])])
