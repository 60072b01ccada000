"""The ``OTEL_*`` variables of metrics, which here are those of the agent itself.

Specifications: "Environment Variable Specification" (exporter selection, periodic exporting
metric reader) and "OpenTelemetry Protocol Exporter" for metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from otel_oom.config.otlp import Endpoint, SettingsError, endpoint

_CHOICES: Final = {"otlp": True, "none": False}
_TEMPORALITIES: Final = {name: name for name in ("cumulative", "delta", "lowmemory")}
_AGGREGATIONS: Final = {
    "explicit_bucket_histogram": False,
    "base2_exponential_bucket_histogram": True,
}
_INTERVAL_MS: Final = "60000"
_TIMEOUT_MS: Final = "30000"
_MOST_MS: Final = 1e9

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class MetricSettings:
    """Where the agent's metrics go, and how; times are in seconds."""

    endpoint: Endpoint
    interval_s: float = 60.0
    timeout_s: float = 30.0
    temporality: str = "cumulative"
    exponential: bool = False
    service_name: str = ""


def read(environ: Mapping[str, str]) -> MetricSettings | None:
    """What ``environ`` says of metrics; ``None`` where none are to be sent.

    Raises:
        SettingsError: a value can't be used.
    """
    chosen = _choice(environ, "OTEL_METRICS_EXPORTER", _CHOICES, "otlp")
    if not chosen or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    prefix = "OTEL_EXPORTER_OTLP_METRICS_"
    return MetricSettings(
        endpoint=endpoint(environ, "metrics"),
        interval_s=_seconds(environ, "OTEL_METRIC_EXPORT_INTERVAL", _INTERVAL_MS),
        timeout_s=_seconds(environ, "OTEL_METRIC_EXPORT_TIMEOUT", _TIMEOUT_MS),
        temporality=_choice(
            environ, f"{prefix}TEMPORALITY_PREFERENCE", _TEMPORALITIES, "cumulative"
        ),
        exponential=_choice(
            environ,
            f"{prefix}DEFAULT_HISTOGRAM_AGGREGATION",
            _AGGREGATIONS,
            "explicit_bucket_histogram",
        ),
        service_name=environ.get("OTEL_SERVICE_NAME", "").strip(),
    )


def _choice(environ: Mapping[str, str], name: str, choices: Mapping[str, _T], default: str) -> _T:
    text = environ.get(name, "").strip() or default
    if text.lower() not in choices:
        raise SettingsError(f"{name}={text!r} can't be used: it takes {' or '.join(choices)}.")
    return choices[text.lower()]


def _seconds(environ: Mapping[str, str], name: str, default: str) -> float:
    text = environ.get(name, "").strip() or default
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = 0.0
    if not 0 < milliseconds <= _MOST_MS:
        raise SettingsError(
            f"{name}={text!r} can't be used: it takes a positive number of milliseconds, such as "
            f"{default}."
        )
    return milliseconds / 1000
