"""The agent's own metrics, by the variables that the specification names."""

from __future__ import annotations

import pytest

from otel_oom.config.metrics import MetricsConfig, read_metrics_config
from otel_oom.config.otlp import Endpoint
from otel_oom.config.variable import ConfigError

PREFIX = "OTEL_EXPORTER_OTLP_METRICS_"


def test_defaults_are_those_of_the_specification() -> None:
    assert read_metrics_config({}) == MetricsConfig(
        endpoint=Endpoint("metrics", "http/protobuf", "http://localhost:4318/v1/metrics"),
        interval_s=60,
        timeout_s=30,
        temporality="cumulative",
        exponential=False,
        service_name="",
    )


@pytest.mark.parametrize(
    "environ", [{"OTEL_METRICS_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}]
)
def test_metrics_can_be_switched_off(environ: dict[str, str]) -> None:
    """By their exporter's variable, and by the one for all of OpenTelemetry."""
    assert read_metrics_config(environ) is None


def test_every_variable_counts() -> None:
    """Own variables win over general ones; times are in milliseconds; preferences in any case."""
    read = read_metrics_config(
        {
            "OTEL_METRICS_EXPORTER": "OTLP",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "OTEL_METRIC_EXPORT_TIMEOUT": "250",
            "OTEL_SERVICE_NAME": "oom",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://general:4318",
            f"{PREFIX}ENDPOINT": "http://own:4318/there",
            f"{PREFIX}COMPRESSION": "gzip",
            f"{PREFIX}HEADERS": "key=secret",
            f"{PREFIX}TEMPORALITY_PREFERENCE": "Delta",
            f"{PREFIX}DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
        }
    )
    assert read == MetricsConfig(
        endpoint=Endpoint(
            "metrics",
            "http/protobuf",
            "http://own:4318/there",
            headers=(("key", "secret"),),
            gzip=True,
        ),
        interval_s=0.5,
        timeout_s=0.25,
        temporality="delta",
        exponential=True,
        service_name="oom",
    )


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("OTEL_METRICS_EXPORTER", "prometheus", "otlp or none"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "positive number of milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "nan", "positive number of milliseconds"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "soon", "positive number of milliseconds"),
        (f"{PREFIX}TEMPORALITY_PREFERENCE", "both", "cumulative or delta or lowmemory"),
        (f"{PREFIX}DEFAULT_HISTOGRAM_AGGREGATION", "none", "explicit_bucket_histogram or"),
        (f"{PREFIX}PROTOCOL", "http/json", "http/protobuf or grpc"),
    ],
)
def test_an_invalid_value_is_named(name: str, value: str, takes: str) -> None:
    """The error names the variable and its valid values."""
    with pytest.raises(ConfigError, match=takes) as error:
        read_metrics_config({name: value})
    assert "METRIC" in str(error.value) or name in str(error.value)
