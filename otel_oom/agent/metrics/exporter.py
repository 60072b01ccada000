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
from collections.abc import Sequence
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

from otel_oom.agent.metrics.kill_metrics import build_metrics, read_deltas
from otel_oom.config.endpoint import Endpoint
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
    """Exporter of the SDK's data, with the durable metrics of kills.

    A failure is logged once, not at each interval, and has no other effect: cumulative data say the
    same the next time.
    """

    def __init__(
        self, config: MetricsConfig, endpoint: Endpoint, transport: Transport, store: Store
    ) -> None:
        super().__init__(
            preferred_temporality=dict.fromkeys(
                _DELTA[config.temporality], AggregationTemporality.DELTA
            ),
            preferred_aggregation=(
                {Histogram: ExponentialBucketHistogramAggregation()} if config.exponential else {}
            ),
        )
        self._config = config
        self._endpoint = endpoint
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
            overflow = self._store.accepted_deltas.overflow_names() if self._delta else {}
            counters = read_counters(self._store)
        except sqlite3.Error as error:
            reason = f"the store can't be read: {error}"
            self._report(ExportResponse(ExportResult.RETRYABLE, reason))
            return MetricExportResult.FAILURE
        data = add_metrics(metrics_data, build_metrics(counters, now, delta=self._delta))
        response = self._transport.send(encode_metrics(data).SerializeToString())
        self._report(response)
        if response.result is not ExportResult.ACCEPTED:
            return MetricExportResult.FAILURE
        if self._delta:
            # If the disk fails, which the store reports, this delta is sent once more.
            with suppress(sqlite3.Error):
                self._store.accepted_deltas.add(read_deltas(counters), overflow, now)
        return MetricExportResult.SUCCESS

    def _report(self, response: ExportResponse) -> None:
        failing = response.result is not ExportResult.ACCEPTED or response.rejected > 0
        url = self._endpoint.redacted_url
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


def read_counters(store: Store) -> dict[str, int]:
    """Return the counters from which the metrics of kills are built. Raises sqlite3.Error."""
    return store.counters(NO_BOOT) | store.counters(START_TIME)


def add_metrics(data: MetricsData, metrics: Sequence[Metric]) -> MetricsData:
    """Return ``data`` with more metrics, in its only resource and scope."""
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    scope = replace(scope, metrics=[*metrics, *scope.metrics])
    return MetricsData([replace(resource, scope_metrics=[scope])])
