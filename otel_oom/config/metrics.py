"""The ``OTEL_*`` variables of the agent's own metrics.

Specifications: "Environment Variable Specification" (exporter selection, periodic exporting
metric reader) and "OpenTelemetry Protocol Exporter" for metrics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from otel_oom.config.endpoint import Endpoint, read_endpoint
from otel_oom.config.exporters import PROMETHEUS, read_exporters
from otel_oom.config.variable import Warn, log_warning, read_variable

OWNER_NAMES: Final = "OTEL_OOM_METRIC_ATTRIBUTES"

DEFAULT_OWNER_NAMES: Final = (
    *("service.name", "service.namespace", "k8s.namespace.name", "k8s.container.name"),
)
"""What routes an alert. Outside of Kubernetes the service has the name of its unit or container."""

_MAX_OWNER_NAMES: Final = 16
_NAME: Final = re.compile(r"[A-Za-z][\w.\-/]{0,127}", re.ASCII)
_NONE: Final = "none"

_HOST: Final = "OTEL_EXPORTER_PROMETHEUS_HOST"
_PORT: Final = "OTEL_EXPORTER_PROMETHEUS_PORT"
_DEFAULT_PORT: Final = 9464
_MAX_PORT: Final = 65_535

_MAX_MS: Final = 1e9
_EXPLICIT: Final = "explicit_bucket_histogram"
_EXPONENTIAL: Final = "base2_exponential_bucket_histogram"


class ScrapeAddress(Struct, frozen=True):
    """Address on which Prometheus scrapes the agent."""

    host: str = "localhost"
    port: int = _DEFAULT_PORT


class MetricsConfig(Struct, frozen=True):
    """Destination and form of the agent's metrics; times are in seconds.

    ``exporters`` are the names of installed ones. ``endpoint`` is ``None`` without OTLP,
    ``scrape_address`` without Prometheus.
    """

    endpoint: Endpoint | None
    interval_s: float = 60.0
    timeout_s: float = 30.0
    temporality: str = "cumulative"
    exponential: bool = False
    service_name: str = ""
    exporters: tuple[str, ...] = ()
    scrape_address: ScrapeAddress | None = None


def read_metrics_config(
    environ: Mapping[str, str], warn: Warn = log_warning
) -> MetricsConfig | None:
    """Return the settings in ``environ``; ``None`` for no metrics.

    ``warn`` gets a sentence for each value that is ignored. Raises ConfigError for others.
    """
    selection = read_exporters(environ, "metrics", warn)
    protocol = selection.otlp_protocol
    if selection.is_off or read_variable(environ, "OTEL_SDK_DISABLED").flag_or_warn(warn):
        return None
    prefix = "OTEL_EXPORTER_OTLP_METRICS_"
    temporality = read_variable(environ, f"{prefix}TEMPORALITY_PREFERENCE", default="cumulative")
    histogram = read_variable(environ, f"{prefix}DEFAULT_HISTOGRAM_AGGREGATION", default=_EXPLICIT)
    names = [exporter.name for exporter in selection.installed]
    return MetricsConfig(
        endpoint=(None if protocol is None else read_endpoint(environ, "metrics", warn, protocol)),
        interval_s=_read_seconds(environ, "OTEL_METRIC_EXPORT_INTERVAL", 60_000, warn),
        timeout_s=_read_seconds(environ, "OTEL_METRIC_EXPORT_TIMEOUT", 30_000, warn),
        temporality=temporality.choice_or_warn(warn, "cumulative", "delta", "lowmemory"),
        exponential=histogram.choice_or_warn(warn, _EXPLICIT, _EXPONENTIAL) == _EXPONENTIAL,
        service_name=read_variable(environ, "OTEL_SERVICE_NAME").text,
        exporters=tuple(name for name in names if name != PROMETHEUS),
        scrape_address=_read_scrape_address(environ, warn) if PROMETHEUS in names else None,
    )


def read_owner_names(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the attributes by which kills are counted. Raises ConfigError."""
    variable = read_variable(environ, OWNER_NAMES, default=",".join(DEFAULT_OWNER_NAMES))
    names = tuple(dict.fromkeys(name.strip() for name in variable.text.split(",") if name.strip()))
    if [name.lower() for name in names] == [_NONE]:
        return ()
    are_names = all(_NAME.fullmatch(name) and name.lower() != _NONE for name in names)
    if not 0 < len(names) <= _MAX_OWNER_NAMES or not are_names:
        raise variable.error(
            f"up to {_MAX_OWNER_NAMES} names of attributes, such as {DEFAULT_OWNER_NAMES[0]}, "
            f"separated by commas, or {_NONE}"
        )
    return names


def _read_scrape_address(environ: Mapping[str, str], warn: Warn) -> ScrapeAddress:
    host = read_variable(environ, _HOST, default=ScrapeAddress().host)
    port = read_variable(environ, _PORT, default=str(_DEFAULT_PORT))
    accepted = f"a port up to {_MAX_PORT}, such as {_DEFAULT_PORT}"
    number = port.whole_or_warn(warn, _MAX_PORT, accepted)
    return ScrapeAddress(host.text, _DEFAULT_PORT if number is None else number)


def _read_seconds(environ: Mapping[str, str], name: str, default_ms: int, warn: Warn) -> float:
    variable = read_variable(environ, name, default=str(default_ms))
    accepted = f"a positive number of milliseconds, such as {default_ms}"
    return variable.positive_or_warn(warn, _MAX_MS, accepted, default_ms) / 1000
