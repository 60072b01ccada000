"""The agent's metrics for Prometheus, by the official exporter, with probes on the same port."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricsData
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

from otel_oom.agent.health import Health
from otel_oom.agent.metrics.exporter import add_metrics, read_counters
from otel_oom.agent.metrics.http_listener import HttpListener, Response
from otel_oom.agent.metrics.kill_metrics import build_metrics
from otel_oom.config.metrics import ScrapeAddress
from otel_oom.store import Store

_TEXT: Final = "text/plain; charset=utf-8"
_OK: Final = 200
_UNAVAILABLE: Final = 503
_VALID_S: Final = 1.0
"""For so long a response stands for others: work does not grow with the number of requests."""

_NAMES: Final = {
    "process.thread.count": "process.threads",
    "process.unix.file_descriptor.count": "process.open_fds",
}
"""Prometheus has ``_count`` for histograms alone; the second name is that of its own libraries."""


class ScrapeServer:
    """Server of ``/metrics``, ``/healthz`` and ``/readyz``."""

    def __init__(self, address: ScrapeAddress, store: Store, health: Health | None) -> None:
        """Bind ``address``. Raises OSError."""
        self._registry = CollectorRegistry()
        self.reader: Final = _Reader(store, self._registry)
        routes = {"/metrics": _Cached(self._render_metrics)}
        if health:
            routes |= {
                "/healthz": _Cached(lambda: _describe(health.find_liveness_error())),
                "/readyz": _Cached(lambda: _describe(health.find_readiness_error())),
            }
        self._listener = HttpListener(address.host, address.port, routes)
        self.port: Final = self._listener.port

    def start(self) -> None:
        """Respond from now on."""
        self._listener.start()

    def stop(self) -> None:
        """Close the port."""
        self._listener.stop()

    def _render_metrics(self) -> Response:
        try:
            return Response(_OK, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry))
        except sqlite3.Error as error:
            return Response(_UNAVAILABLE, _TEXT, f"The store can't be read: {error}\n".encode())


class _Reader(PrometheusMetricReader):
    """Reader of the SDK's data, with the metrics of kills from the store."""

    def __init__(self, store: Store, registry: CollectorRegistry) -> None:
        # Without labels of the scope, series are those of Prometheus' receiver of OTLP.
        super().__init__(scope_info_enabled=False, registry=registry)
        self._store = store

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> None:
        kills = build_metrics(read_counters(self._store), time.time_ns())
        data = _rename_metrics(add_metrics(metrics_data, kills))
        super()._receive_metrics(data, timeout_millis, **kwargs)


class _Cached:
    def __init__(self, respond: Callable[[], Response]) -> None:
        self._respond = respond
        self._response: Response | None = None
        self._valid_until = 0.0

    def __call__(self) -> Response:
        if self._response is None or time.monotonic() > self._valid_until:
            self._response = self._respond()
            self._valid_until = time.monotonic() + _VALID_S
        return self._response


def _describe(error: str | None) -> Response:
    return Response(_UNAVAILABLE if error else _OK, _TEXT, f"{error or 'ok'}\n".encode())


def _rename_metrics(data: MetricsData) -> MetricsData:
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    metrics = [replace(each, name=_NAMES.get(each.name, each.name)) for each in scope.metrics]
    return MetricsData([replace(resource, scope_metrics=[replace(scope, metrics=metrics)])])
