"""Declarative configuration: a file says the same as variables do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from otel_oom.config.agent import read_agent_config
from otel_oom.config.file import apply_config_file
from otel_oom.config.metrics import read_metrics_config
from otel_oom.config.otlp import read_otlp_config
from otel_oom.config.variable import ConfigError

pytestmark = pytest.mark.slow  # each process loads the package's model and schema

FILE = """\
file_format: "1.0"
log_level: debug
attribute_limits: {attribute_count_limit: 100}
resource:
  attributes:
    - {name: deployment.environment.name, value: "${STAGE:-test, a=b}"}
  attributes_list: k8s.cluster.name=blue
propagator: {composite: [{tracecontext: {}}]}
logger_provider:
  limits: {attribute_value_length_limit: 4096}
  processors:
    - batch:
        schedule_delay: 1000
        exporter:
          otlp_http:
            endpoint: https://collector:4318/v1/logs
            encoding: json
            compression: gzip
            timeout: 2500
            headers: [{name: api-key, value: "a=b, c"}]
tracer_provider:
  sampler: {parent_based: {root: {always_on: {}}}}
  limits: {event_count_limit: 3}
  processors:
    - simple: {exporter: {otlp_grpc: {endpoint: "http://collector:4317"}}}
meter_provider:
  readers:
    - periodic:
        interval: 5000
        exporter:
          otlp_http: {endpoint: "http://collector:4318/m", temporality_preference: low_memory}
"""
ENVIRON = {
    "OTEL_LOG_LEVEL": "debug",
    "OTEL_ATTRIBUTE_COUNT_LIMIT": "100",
    "OTEL_RESOURCE_ATTRIBUTES": "k8s.cluster.name=blue,deployment.environment.name=test%2C%20a%3Db",
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "4096",
    "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/json",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://collector:4318/v1/logs",
    "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION": "gzip",
    "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "2.5",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "api-key=a%3Db%2C%20c",
    "OTEL_SPAN_EVENT_COUNT_LIMIT": "3",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317",
    "OTEL_METRIC_EXPORT_INTERVAL": "5000",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318/m",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "lowmemory",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "otel.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def error_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        apply_config_file({"OTEL_CONFIG_FILE": str(path)}, lambda _: None)
    return str(caught.value)


def test_the_file_is_the_same_as_its_variables(file: Path) -> None:
    """It replaces those of OpenTelemetry, and leaves the agent's own."""
    other = {"OTEL_OOM_CONTAINER_LABELS": "team"}
    ignored = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://elsewhere:4318", "OTEL_SERVICE_NAME": "x"}
    read = read_agent_config({"OTEL_CONFIG_FILE": str(file), **ignored, **other})
    assert read == read_agent_config({**ENVIRON, **other})


def test_what_has_no_effect_is_named(file: Path) -> None:
    warnings: list[str] = []
    apply_config_file({"OTEL_CONFIG_FILE": str(file)}, warnings.append)
    (warning,) = warnings
    assert "propagator.composite.0.tracecontext" in warning
    assert "logger_provider.processors.0.batch.schedule_delay" in warning


def test_a_signal_that_the_file_does_not_have_is_off(tmp_path: Path) -> None:
    """As in the SDK, whose providers then do nothing."""
    path = tmp_path / "otel.yaml"
    path.write_text(
        'file_format: "1.0"\n'
        "logger_provider: {processors: [{simple: {exporter: {otlp_http: {}}}}]}\n",
        encoding="utf-8",
    )
    environ = apply_config_file({"OTEL_CONFIG_FILE": str(path)}, lambda _: None)
    (endpoint,) = read_otlp_config(environ).endpoints
    assert (endpoint.signal, endpoint.url) == ("logs", "http://localhost:4318/v1/logs")
    assert read_metrics_config(environ) is None


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("encoding: json", "encoding: xml", "can't be used"),
        ("always_on", "jaeger_remote/development", "can't be used"),
        ("{root: {always_on: {}}}", "{root: {trace_id_ratio_based: {ratio: 0.5}}}", "ratio"),
        ('otlp_grpc: {endpoint: "http://collector:4317"}', "console: {}", "console"),
        ("- simple:", "- batch: {exporter: {otlp_grpc: {}}}\n    - simple:", "more than one"),
    ],
)
def test_what_is_not_supported_is_an_error(
    file: Path, before: str, after: str, message: str
) -> None:
    """It would send something else, or elsewhere, than the file says."""
    assert before in FILE
    file.write_text(FILE.replace(before, after), encoding="utf-8")
    error = error_of(file)
    assert error.startswith("OTEL_CONFIG_FILE")
    assert message in error


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "can't be used" in error_of(tmp_path / "none.yaml")


def test_without_the_package_the_error_says_how_to_get_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.configuration", None)
    assert "pip install 'otel-oom[config]'" in error_of(file)
