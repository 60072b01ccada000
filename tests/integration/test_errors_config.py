"""Invalid and misspelt ``OTEL_*`` variables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.testlib.command import run_otel_oom

pytestmark = pytest.mark.slow  # each runs the command as a process of its own

OTLP = "OTEL_EXPORTER_OTLP_"

WRONG = [
    (f"{OTLP}ENDPOINT", "localhost:4318", "http://localhost:4318"),
    (f"{OTLP}ENDPOINT", "http://", "http://localhost:4318"),
    (f"{OTLP}ENDPOINT", "htp://collector:4318", "http://localhost:4318"),
    (f"{OTLP}ENDPOINT", "http://collector:431800", "http://localhost:4318"),
    (f"{OTLP}ENDPOINT", "collector: 4318", "http://localhost:4318"),
    (f"{OTLP}ENDPOINT", "https://me:s3cret@collector:431800", "http://localhost:4318"),
    (f"{OTLP}LOGS_ENDPOINT", "collector", "http://localhost:4318"),
    (f"{OTLP}METRICS_ENDPOINT", "collector", "http://localhost:4318"),
    ("OTEL_TRACES_EXPORTER", "zipkin", "otlp"),
    (f"{OTLP}HEADERS", "authorization: Bearer s3cret", "key=value"),
    (f"{OTLP}HEADERS", "api key=s3cret", "key=value"),
    (f"{OTLP}HEADERS", "x-key=s3cret%0D%0A", "key=value"),
    (f"{OTLP}CERTIFICATE", "/nowhere/ca.pem", "path of a file"),
    ("OTEL_RESOURCE_ATTRIBUTES", "s3cret", "key=value"),
    ("OTEL_OOM_EXCLUDE", "chrome*", "cgroup=/kubepods*,comm=chrome*;scope=own"),
    ("OTEL_OOM_INCLUDE", "scope=all", "scope (own, pod, ancestor, host)"),
    ("OTEL_OOM_METRIC_ATTRIBUTES", "service name", "names of attributes, such as service.name"),
    ("OTEL_OOM_PROCESSORS", "no-such-processor", "a list of"),
]


@pytest.mark.parametrize(("name", "value", "takes"), WRONG)
def test_run_ends_with_the_variable_and_its_valid_values(
    tmp_path: Path, name: str, value: str, takes: str
) -> None:
    """The exit code is 2, and there is no state directory."""
    done = run_otel_oom("run", "--no-pin", "--state-dir", tmp_path / "state", env={name: value})
    assert done.code == 2
    assert name in done.error_message()
    assert takes in done.error_message()
    assert "s3cret" not in done.err
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("name", "value", "takes"), WRONG)
def test_doctor_reports_an_invalid_value(name: str, value: str, takes: str) -> None:
    """The finding names the variable, and the advice its valid values; the exit code is 1."""
    done = run_otel_oom("doctor", "--json", env={name: value})
    assert (done.code, done.err) == (1, "")
    (finding,) = (f for f in json.loads(done.out)["checks"] if f["name"] == "settings")
    assert finding["state"] == "fail"
    assert finding["detail"].startswith(name)
    assert finding["detail"].endswith("is invalid")
    assert takes in finding["advice"]
    assert "s3cret" not in done.out


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        (f"{OTLP}ENDPONT", f"{OTLP}ENDPOINT"),
        (f"{OTLP}TRACE_ENDPOINT", f"{OTLP}TRACES_ENDPOINT"),
        (f"{OTLP}HEADER", f"{OTLP}HEADERS"),
    ],
)
def test_doctor_suggests_the_variable_that_was_meant(misspelt: str, meant: str) -> None:
    done = run_otel_oom("doctor", "--json", env={misspelt: "s3cret"})
    (finding,) = (f for f in json.loads(done.out)["checks"] if f["name"] == "settings")
    assert (finding["state"], finding["advice"]) == ("warn", f"Did you mean {meant}?")
    assert "not a known variable" in finding["detail"]
    assert misspelt in finding["detail"]
    assert "s3cret" not in done.out
