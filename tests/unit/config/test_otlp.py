"""The ``OTEL_*`` variables of the export, by the names of the specification."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import opentelemetry.environment_variables
import opentelemetry.sdk.environment_variables
import pytest

from otel_oom.config.agent import OWN_VARIABLES
from otel_oom.config.endpoint import Endpoint
from otel_oom.config.otlp import OtlpConfig, read_otlp_config
from otel_oom.config.standard_variables import (
    STANDARD_VARIABLES,
    Use,
    otlp_variables,
    unread_variables,
)
from otel_oom.config.variable import ConfigError

GENERAL = "OTEL_EXPORTER_OTLP_"
PEM = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"


def read_endpoints(**options: str) -> dict[str, Endpoint]:
    """Return the endpoints by signal; ``options`` are variables without their common prefix."""
    environ = {GENERAL + name: value for name, value in options.items()}
    return {endpoint.signal: endpoint for endpoint in read_otlp_config(environ).endpoints}


def test_defaults() -> None:
    """Both signals go to a Collector on this host, by OTLP/HTTP, with a timeout of 10 s."""
    read = read_otlp_config({})
    assert read == OtlpConfig(
        endpoints=(
            Endpoint("logs", "http/protobuf", "http://localhost:4318/v1/logs", timeout_s=10),
            Endpoint("traces", "http/protobuf", "http://localhost:4318/v1/traces", timeout_s=10),
        ),
        resource={},
        disabled=False,
    )


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/logs"),
        ("http://collector:4318/", "http://collector:4318/v1/logs"),
        ("https://otlp.example.com/otlp", "https://otlp.example.com/otlp/v1/logs"),
        ("https://otlp.example.com/otlp/", "https://otlp.example.com/otlp/v1/logs"),
        ("HTTPS://otlp.example.com", "https://otlp.example.com/v1/logs"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/logs"),
        ("  http://collector:4318 ", "http://collector:4318/v1/logs"),
    ],
)
def test_the_general_http_endpoint_gets_the_path_of_the_signal(endpoint: str, url: str) -> None:
    """Without a doubled slash."""
    assert read_endpoints(ENDPOINT=endpoint)["logs"].url == url


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://collector:4318/v1/logs",
        "http://collector:4318/v1/logs/",
        "https://collector/elsewhere?tenant=a",
        "http://collector:4318/",
        "http://collector:4318",
    ],
)
def test_the_http_endpoint_of_a_signal_is_used_as_it_is(endpoint: str) -> None:
    """Nothing is appended, and the other signal is not affected."""
    read = read_endpoints(LOGS_ENDPOINT=endpoint, ENDPOINT="http://general:4318")
    assert read["logs"].url == endpoint
    assert read["traces"].url == "http://general:4318/v1/traces"


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "http://localhost:4317"),
        ({"ENDPOINT": "http://collector:4317"}, "http://collector:4317"),
        ({"ENDPOINT": "https://collector:4317"}, "https://collector:4317"),
        ({"ENDPOINT": "HTTPS://collector:4317"}, "https://collector:4317"),
        ({"ENDPOINT": "collector:4317"}, "https://collector:4317"),
        ({"ENDPOINT": "collector:4317", "INSECURE": "false"}, "https://collector:4317"),
        ({"ENDPOINT": "collector:4317", "INSECURE": "TRUE"}, "http://collector:4317"),
        ({"ENDPOINT": "https://collector:4317", "INSECURE": "true"}, "https://collector:4317"),
        ({"ENDPOINT": "http://collector:4317", "INSECURE": "false"}, "http://collector:4317"),
        (
            {"ENDPOINT": "collector:4317", "INSECURE": "false", "LOGS_INSECURE": "true"},
            "http://collector:4317",
        ),
    ],
)
def test_the_scheme_of_a_grpc_endpoint_wins_over_insecure(
    options: Mapping[str, str], url: str
) -> None:
    """Without a scheme INSECURE decides; its default is TLS."""
    logs = read_endpoints(PROTOCOL="grpc", **options)["logs"]
    assert (logs.url, logs.secure) == (url, url.startswith("https:"))


@pytest.mark.parametrize(
    ("option", "general", "own", "field", "expected"),
    [
        ("PROTOCOL", "http/protobuf", "grpc", "protocol", ("grpc", "http/protobuf")),
        ("TIMEOUT", "7", "0.5", "timeout_s", (0.5, 7.0)),
        ("COMPRESSION", "none", "gzip", "gzip", (True, False)),
        ("COMPRESSION", "GZIP", "none", "gzip", (False, True)),
        ("HEADERS", "a=1,b=2", "c=3", "headers", ((("c", "3"),), (("a", "1"), ("b", "2")))),
    ],
)
def test_the_variable_of_a_signal_wins(
    option: str, general: str, own: str, field: str, expected: tuple[object, object]
) -> None:
    """For this signal alone."""
    read = read_endpoints(**{option: general, f"LOGS_{option}": own})
    assert (getattr(read["logs"], field), getattr(read["traces"], field)) == expected


@pytest.mark.parametrize("option", ["CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"])
def test_files_for_all_signals_or_one(option: str, tmp_path: Path) -> None:
    general, own = tmp_path / "general.pem", tmp_path / "own.pem"
    general.write_text(PEM)
    own.write_text(PEM)
    names = {option: str(general), f"TRACES_{option}": str(own)}
    read = read_endpoints(**({"CLIENT_CERTIFICATE": str(general)} | names))
    field = option.lower()
    assert getattr(read["logs"], field) == general
    assert getattr(read["traces"], field) == own


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_value_counts_as_unset(empty: str) -> None:
    """The general variable counts then, or the default."""
    names = [
        name.removeprefix(GENERAL)
        for name in otlp_variables()
        if not name.removeprefix(GENERAL).startswith("METRICS_")
    ]
    assert read_endpoints(**dict.fromkeys(names, empty)) == read_endpoints()
    assert read_endpoints(TIMEOUT="3", LOGS_TIMEOUT=empty)["logs"].timeout_s == 3


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("api-key=abc", (("api-key", "abc"),)),
        (" a = 1 , b = 2 ,", (("a", "1"), ("b", "2"))),
        ("Authorization=Basic%20dTpw", (("Authorization", "Basic dTpw"),)),
        ("Authorization=Basic dTpw==", (("Authorization", "Basic dTpw=="),)),
        ("x=a%2Cb%3Dc%25", (("x", "a,b=c%"),)),
        ("x=", (("x", ""),)),
        ("x=%E4%B8%AD", (("x", "中"),)),
    ],
)
def test_headers_are_percent_encoded_pairs(text: str, headers: tuple[tuple[str, str], ...]) -> None:
    """Separated by commas."""
    assert read_endpoints(HEADERS=text)["logs"].headers == headers


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_user_and_password_of_the_url_become_a_header(protocol: str) -> None:
    """Basic authorization; no URL has them."""
    logs = read_endpoints(PROTOCOL=protocol, ENDPOINT="https://me:s%40cret@otlp.example.com")[
        "logs"
    ]
    assert logs.headers == (("Authorization", "Basic bWU6c0BjcmV0"),)  # me:s@cret
    assert "me" not in logs.url.partition(".")[0]
    assert logs.redacted_url.startswith("https://otlp.example.com")


def test_an_authorization_header_wins_over_the_url() -> None:
    read = read_endpoints(ENDPOINT="http://me:secret@collector", HEADERS="authorization=Bearer t")
    assert read["logs"].headers == (("authorization", "Bearer t"),)


def test_the_redacted_url_has_scheme_host_and_port_alone() -> None:
    """Path and query may have a key."""
    logs = read_endpoints(LOGS_ENDPOINT="https://collector:4318/s3cret/v1/logs?key=secret")["logs"]
    assert logs.redacted_url == "https://collector:4318"


def test_resource_attributes_and_the_main_switch() -> None:
    read = read_otlp_config(
        {
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod,team=a%2Cb,note=x%0Ay",
            "OTEL_SDK_DISABLED": "True",
        }
    )
    assert read.resource == {
        "deployment.environment.name": "prod",
        "team": "a,b",
        "note": "x\ny",
    }
    assert read.disabled


@pytest.mark.parametrize("value", ["", "false", "False"])
def test_empty_or_false_leaves_export_on(value: str) -> None:
    assert not read_otlp_config({"OTEL_SDK_DISABLED": value}).disabled


def test_misspelt_variables_are_found() -> None:
    """Only names that look like an exporter's variable and are none."""
    wrong = ["ENDPIONT", "LOG_ENDPOINT", "LOGS_TEMPORALITY_PREFERENCE", "TRACE_HEADERS"]
    right = ["ENDPOINT", "LOGS_HEADERS", "TRACES_INSECURE", "METRICS_TEMPORALITY_PREFERENCE"]
    environ = {GENERAL + name: "x" for name in wrong + right} | {"OTEL_SERVICE_NAME": "x"}
    assert list(unread_variables(environ, ())) == sorted(GENERAL + name for name in wrong)


def test_unread_variables_have_a_reason() -> None:
    """Those of the agent itself, of other programs, and empty ones are not among them."""
    environ = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "9",
        "OTEL_PROPAGATORS": "",
        "OTEL_OOM_STORE_MAX_AGE": "1d",
        "OTEL_OOM_EXLUDE": "comm=chrome",
        "OTELCOL_HOME": "/srv",
        "OTEL_SERVICE_NAME": "x",
    }
    unread = unread_variables(environ, OWN_VARIABLES)
    assert unread == {
        "OTEL_BSP_MAX_QUEUE_SIZE": unread["OTEL_BSP_MAX_QUEUE_SIZE"],
        "OTEL_OOM_EXLUDE": "not a known variable",
    }
    assert "queued on disk" in unread["OTEL_BSP_MAX_QUEUE_SIZE"]


def test_every_variable_of_the_installed_sdk_has_a_row() -> None:
    """A new release may add some."""
    modules = (opentelemetry.environment_variables, opentelemetry.sdk.environment_variables)
    official = {
        value
        for module in modules
        for name, value in vars(module).items()
        if name.lstrip("_").startswith("OTEL_")
    }
    assert len(official) > 80
    rows = [name for variable in STANDARD_VARIABLES for name in variable.names]
    assert not official - set(rows)
    assert len(rows) == len(set(rows))
    assert all(row.note for row in STANDARD_VARIABLES if row.use is not Use.SUPPORTED)


@pytest.mark.parametrize(
    ("value", "timeout_s"),
    [("0.5", 0.5), ("10", 10), ("600", 600), ("601", 0.601), ("1000", 1), ("10000", 10)],
)
def test_a_long_timeout_is_in_milliseconds(value: str, timeout_s: float) -> None:
    """Python's exporters have seconds, the specification milliseconds."""
    warnings: list[str] = []
    read = read_otlp_config({f"{GENERAL}TIMEOUT": value}, warnings.append)
    assert [endpoint.timeout_s for endpoint in read.endpoints] == [timeout_s] * 2
    assert bool(warnings) == (float(value) > 600)


@pytest.mark.parametrize("protocol", ["http/json", "HTTP/JSON", " Http/Json "])
def test_protocols_have_no_case(protocol: str) -> None:
    (url,) = {read_endpoints(PROTOCOL=protocol)["logs"].url}
    assert (read_endpoints(PROTOCOL=protocol)["logs"].protocol, url) == (
        "http/json",
        "http://localhost:4318/v1/logs",
    )


@pytest.mark.parametrize(
    ("address", "insecure", "secure"),
    [
        ("dns:///collector:4317", "", True),
        ("dns:///collector:4317", "true", False),
        ("dns:collector:4317", "true", False),
        ("unix:///run/otlp.sock", "", False),
        ("unix:/run/otlp.sock", "false", True),
        ("ipv4:10.0.0.1:4317,10.0.0.2:4317", "true", False),
    ],
)
def test_addresses_of_grpc_itself(address: str, insecure: str, secure: bool) -> None:  # noqa: FBT001  a case's value
    """They have no scheme that says whether there is TLS; a socket on the host has none."""
    logs = read_endpoints(PROTOCOL="grpc", ENDPOINT=address, INSECURE=insecure)["logs"]
    assert (logs.target, logs.redacted_url, logs.secure) == (address, address, secure)


@pytest.mark.parametrize(
    ("environ", "protocols"),
    [
        ({}, {"logs": "http/protobuf", "traces": "http/protobuf"}),
        ({"OTEL_TRACES_EXPORTER": "none"}, {"logs": "http/protobuf"}),
        ({"OTEL_LOGS_EXPORTER": "None"}, {"traces": "http/protobuf"}),
        ({"OTEL_LOGS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none"}, {}),
        ({"OTEL_LOGS_EXPORTER": "OTLP"}, {"logs": "http/protobuf", "traces": "http/protobuf"}),
        ({"OTEL_TRACES_SAMPLER": "ALWAYS_OFF"}, {"logs": "http/protobuf"}),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, {"logs": "http/protobuf"}),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio"},
            {"logs": "http/protobuf", "traces": "http/protobuf"},
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp_proto_grpc", f"{GENERAL}PROTOCOL": "http/json"},
            {"logs": "http/json", "traces": "grpc"},
        ),
    ],
)
def test_exporters_of_each_signal(environ: Mapping[str, str], protocols: Mapping[str, str]) -> None:
    """The names of Python's packages give the protocol too."""
    read = read_otlp_config(environ)
    assert {each.signal: each.protocol for each in read.endpoints} == protocols
    assert read.signals_off.keys() == {"logs", "traces"} - protocols.keys()


def test_a_config_error_is_a_value_error() -> None:
    assert issubclass(ConfigError, ValueError)
