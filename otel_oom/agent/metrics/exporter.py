"""The official SDK's metrics through the agent's own transport.

The official OTLP/HTTP exporter has a client of its own, with OpenSSL: 12 MB more, measured, of the
32 that the agent may use. The official reader, data model and encoder take less than one. So this
works like :mod:`otel_oom.export` for logs and spans: the official encoder, the agent's client, the
same variables.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import suppress
from dataclasses import replace
from typing import Final

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
from otel_oom.config.metrics import MetricsConfig
from otel_oom.export.result import ExportResponse, ExportResult, Transport
from otel_oom.store import Store
from otel_oom.store.counters import NO_BOOT, START_TIME

_LOG = logging.getLogger(__name__)

_DELTA: Final[dict[str, tuple[type, ...]]] = {
    "cumulative": (),
    "delta": (Counter, ObservableCounter, Histogram),
    "lowmemory": (Counter, Histogram),
}
"""Instruments with delta temporality, by the preference for it."""


class TransportExporter(MetricExporter):
    """Exporter of the SDK's data, with the durable count of kills.

    A failure is logged once, not at each interval, and has no other effect: cumulative data say the
    same the next time.
    """

    def __init__(self, config: MetricsConfig, transport: Transport, store: Store) -> None:
        super().__init__(
            preferred_temporality=dict.fromkeys(
                _DELTA[config.temporality], AggregationTemporality.DELTA
            ),
            preferred_aggregation=(
                {Histogram: ExponentialBucketHistogramAggregation()} if config.exponential else {}
            ),
        )
        self._config = config
        self._transport = transport
        self._store = store
        self._delta = config.temporality == "delta"
        self._failing = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_kwargs: object
    ) -> MetricExportResult:
        """Send once, within the endpoint's own timeout."""
        del timeout_millis  # the user set the endpoint's
        now = time.time_ns()
        try:
            counters = self._store.counters(NO_BOOT) | self._store.counters(START_TIME)
        except sqlite3.Error as error:
            reason = f"the store can't be read: {error}"
            self._report(ExportResponse(ExportResult.RETRYABLE, reason))
            return MetricExportResult.FAILURE
        count = kill_counter.read_count(counters)
        exported = kill_counter.read_exported(counters) if self._delta else None
        data = _add_metric(metrics_data, kill_counter.build_metric(count, exported, now))
        response = self._transport.send(encode_metrics(data).SerializeToString())
        self._report(response)
        if response.result is not ExportResult.ACCEPTED:
            return MetricExportResult.FAILURE
        if self._delta:
            # If the disk fails, which the store reports, this delta is sent once more.
            with suppress(sqlite3.Error):
                self._store.set_counters(NO_BOOT, kill_counter.exported_counters(count, now))
        return MetricExportResult.SUCCESS

    def _report(self, response: ExportResponse) -> None:
        failing = response.result is not ExportResult.ACCEPTED or response.rejected > 0
        url = self._config.endpoint.redacted_url
        if failing and not self._failing:
            _LOG.warning(
                "%s did not accept the agent's own metrics (%s); retrying every %g s. Kills are "
                "not affected. OTEL_METRICS_EXPORTER=none turns metrics off.",
                url,
                response.reason,
                self._config.interval_s,
            )
        elif self._failing and not failing:
            _LOG.info("%s accepts metrics again", url)
        self._failing = failing

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Do nothing: no data is buffered here."""
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_kwargs: object) -> None:
        """End a request that is under way, and send no more."""
        del timeout_millis
        self._transport.close()


def _add_metric(data: MetricsData, metric: Metric) -> MetricsData:
    """Return ``data`` with one more metric, in its only resource and scope."""
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    scope = replace(scope, metrics=[metric, *scope.metrics])
    return MetricsData([replace(resource, scope_metrics=[scope])])
