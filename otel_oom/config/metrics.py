"""The ``OTEL_*`` variables of the agent's own metrics.

Specifications: "Environment Variable Specification" (exporter selection, periodic exporting
metric reader) and "OpenTelemetry Protocol Exporter" for metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_oom.config.otlp import Endpoint, read_endpoint
from otel_oom.config.variable import read_variable

_MAX_MS: Final = 1e9
_EXPLICIT: Final = "explicit_bucket_histogram"
_EXPONENTIAL: Final = "base2_exponential_bucket_histogram"


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Destination and form of the agent's metrics; times are in seconds."""

    endpoint: Endpoint
    interval_s: float = 60.0
    timeout_s: float = 30.0
    temporality: str = "cumulative"
    exponential: bool = False
    service_name: str = ""


def read_metrics_config(environ: Mapping[str, str]) -> MetricsConfig | None:
    """Return the settings in ``environ``; ``None`` for no metrics. Raises ConfigError."""
    exporter = read_variable(environ, "OTEL_METRICS_EXPORTER", default="otlp")
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if exporter.choice("otlp", "none") == "none" or disabled:
        return None
    prefix = "OTEL_EXPORTER_OTLP_METRICS_"
    temporality = read_variable(environ, f"{prefix}TEMPORALITY_PREFERENCE", default="cumulative")
    histogram = read_variable(environ, f"{prefix}DEFAULT_HISTOGRAM_AGGREGATION", default=_EXPLICIT)
    return MetricsConfig(
        endpoint=read_endpoint(environ, "metrics"),
        interval_s=_read_seconds(environ, "OTEL_METRIC_EXPORT_INTERVAL", "60000"),
        timeout_s=_read_seconds(environ, "OTEL_METRIC_EXPORT_TIMEOUT", "30000"),
        temporality=temporality.choice("cumulative", "delta", "lowmemory"),
        exponential=histogram.choice(_EXPLICIT, _EXPONENTIAL) == _EXPONENTIAL,
        service_name=read_variable(environ, "OTEL_SERVICE_NAME").text,
    )


def _read_seconds(environ: Mapping[str, str], name: str, default_ms: str) -> float:
    variable = read_variable(environ, name, default=default_ms)
    return (
        variable.positive(_MAX_MS, f"a positive number of milliseconds, such as {default_ms}")
        / 1000
    )
