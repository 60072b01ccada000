"""The agent's own metrics, by the variables that the specification names."""

from __future__ import annotations

from importlib import metadata

import pytest

from otel_oom.config.endpoint import Endpoint
from otel_oom.config.metrics import (
    DEFAULT_OWNER_NAMES,
    MetricsConfig,
    ScrapeAddress,
    read_metrics_config,
    read_owner_names,
)
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
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "positive number of milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "nan", "positive number of milliseconds"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "soon", "positive number of milliseconds"),
        (f"{PREFIX}TEMPORALITY_PREFERENCE", "both", "cumulative or delta or lowmemory"),
        (f"{PREFIX}DEFAULT_HISTOGRAM_AGGREGATION", "none", "explicit_bucket_histogram or"),
        (f"{PREFIX}PROTOCOL", "http/xml", "http/protobuf or http/json or grpc"),
    ],
)
def test_an_invalid_value_is_named(name: str, value: str, takes: str) -> None:
    """The warning names the variable and its valid values; the default counts."""
    warnings: list[str] = []
    assert read_metrics_config({name: value}, warnings.append) == read_metrics_config({})
    (warning,) = warnings
    assert warning.startswith(f"{name}={value!r} is invalid: use ")
    assert takes in warning


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("OTEL_METRICS_EXPORTER", "statsd", "or none"),
        (f"{PREFIX}ENDPOINT", "collector", "http://localhost:4318"),
    ],
)
def test_a_wrong_destination_is_an_error(name: str, value: str, takes: str) -> None:
    with pytest.raises(ConfigError, match=takes):
        read_metrics_config({name: value})


def test_prometheus_scrapes_where_the_standard_variables_say() -> None:
    """It is no exporter of its own, and OTLP may be beside it."""
    plain = read_metrics_config({"OTEL_METRICS_EXPORTER": "prometheus"})
    assert plain is not None
    assert (plain.endpoint, plain.exporters) == (None, ())
    assert plain.scrape_address == ScrapeAddress("localhost", 9464)
    both = read_metrics_config(
        {
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "::",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "9999",
        }
    )
    assert both is not None
    assert both.endpoint is not None
    assert both.scrape_address == ScrapeAddress("::", 9999)


def test_a_wrong_port_is_named() -> None:
    warnings: list[str] = []
    environ = {
        "OTEL_METRICS_EXPORTER": "prometheus",
        "OTEL_EXPORTER_PROMETHEUS_PORT": "70000",
    }
    config = read_metrics_config(environ, warnings.append)
    assert config is not None
    assert config.scrape_address == ScrapeAddress("localhost", 9464)
    (warning,) = warnings
    assert warning.startswith("OTEL_EXPORTER_PROMETHEUS_PORT='70000' is invalid: use a port up to")


def test_without_its_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda **_: metadata.EntryPoints())
    with pytest.raises(ConfigError, match=r"pip install 'otel-oom\[prometheus\]'"):
        read_metrics_config({"OTEL_METRICS_EXPORTER": "prometheus"})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", DEFAULT_OWNER_NAMES),
        ("none", ()),
        (" team , service.name,team", ("team", "service.name")),
        ("container.label.app.kubernetes.io/name", ("container.label.app.kubernetes.io/name",)),
    ],
)
def test_the_owner_has_the_attributes_that_are_named(text: str, names: tuple[str, ...]) -> None:
    assert read_owner_names({"OTEL_OOM_METRIC_ATTRIBUTES": text}) == names


@pytest.mark.parametrize(
    "text", ["none,team", "a b", "1st", ",", ",".join(f"a{number}" for number in range(17))]
)
def test_wrong_names_of_attributes_are_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"up to 16 names of attributes, such as service\.name"):
        read_owner_names({"OTEL_OOM_METRIC_ATTRIBUTES": text})
