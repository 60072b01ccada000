"""Invalid values: reported before anything is sent, and without secrets."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from otel_oom.config.otlp import read_otlp_config
from otel_oom.config.variable import ConfigError

GENERAL = "OTEL_EXPORTER_OTLP_"
HTTP = {f"{GENERAL}PROTOCOL": "http/protobuf"}
GRPC = {f"{GENERAL}PROTOCOL": "grpc"}


def error_message(environ: Mapping[str, str]) -> str:
    """Return the error about ``environ``."""
    with pytest.raises(ConfigError) as caught:
        read_otlp_config(environ)
    return str(caught.value)


URLS = [
    ("collector", "collector"),
    ("ftp://collector", "ftp://collector"),
    ("http://", "http://"),
    ("http:///v1/logs", "http://…"),
    ("http://collector:0", "http://collector:0"),
    ("http://collector:99999", "http://collector:99999"),
    ("http://collector:port", "http://collector…"),
    ("http://[::1", "http://[::1"),
    ("http://collector..example:4318", "http://collector..example:4318"),
    ("http://" + "a" * 64 + ".example:4318", "http://" + "a" * 64 + ".example:4318"),
    ("http://local host:4318", "http://local…"),
    ("http://collector:4318/a b", "http://collector:4318…"),
    ("http://collector:4318/ü", "http://collector:4318…"),
    ("http://collector/@me", "http://…"),
    ("http://to12/ken@collector", "http://…"),
]


@pytest.mark.parametrize("name", ["ENDPOINT", "LOGS_ENDPOINT", "TRACES_ENDPOINT"])
@pytest.mark.parametrize(("value", "shown"), URLS)
def test_an_endpoint_that_is_no_url(name: str, value: str, shown: str) -> None:
    """It is named, with its scheme, host and port, and an example."""
    message = error_message(HTTP | {GENERAL + name: value})
    assert message.startswith(f"{GENERAL}{name}={shown!r} ")
    assert "http://localhost:4318" in message


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("tcp://collector:4317", "tcp://collector:4317"),
        ("collector:port", "collector…"),
        ("a..b:4317", "a..b:4317"),
        (":4317", ":4317"),
    ],
)
def test_an_invalid_grpc_endpoint(value: str, shown: str) -> None:
    """A valid one is a URL or host:port."""
    message = error_message(GRPC | {f"{GENERAL}ENDPOINT": value})
    assert message.startswith(f"{GENERAL}ENDPOINT={shown!r} ")


@pytest.mark.parametrize(
    ("option", "value", "takes"),
    [
        ("CERTIFICATE", "/nowhere/ca.pem", ("PEM",)),
        ("CLIENT_KEY", "/nowhere", ("key", "CLIENT_CERTIFICATE")),
        ("CLIENT_CERTIFICATE", "/nowhere", ("PEM",)),
    ],
)
@pytest.mark.parametrize("scope", ["", "LOGS_", "TRACES_"])
def test_an_invalid_value(scope: str, option: str, value: str, takes: tuple[str, ...]) -> None:
    """The message names the variable that the user set, its value and the valid ones."""
    name = f"{GENERAL}{scope}{option}"
    message = error_message({name: value})
    assert message.startswith(f"{name}={value!r} is invalid: use ")
    assert all(word in message for word in takes)


@pytest.mark.parametrize("value", ["zipkin", "otlp,zipkin", "none,otlp"])
@pytest.mark.parametrize("signal", ["LOGS", "TRACES"])
def test_an_exporter_that_is_not_there(signal: str, value: str) -> None:
    """Its signal would go nowhere."""
    message = error_message({f"OTEL_{signal}_EXPORTER": value})
    assert message.startswith(f"OTEL_{signal}_EXPORTER={value!r} is invalid: use otlp ")


@pytest.mark.parametrize(
    ("option", "value", "takes"),
    [
        ("PROTOCOL", "http/xml", "http/protobuf or http/json or grpc"),
        ("TIMEOUT", "10s", "seconds"),
        ("TIMEOUT", "0", "seconds"),
        ("TIMEOUT", "-1", "seconds"),
        ("TIMEOUT", "nan", "seconds"),
        ("TIMEOUT", "inf", "seconds"),
        ("TIMEOUT", "1e300", "seconds"),
        ("COMPRESSION", "deflate", "none or gzip"),
    ],
)
@pytest.mark.parametrize("scope", ["", "LOGS_", "TRACES_"])
def test_a_wrong_value_that_harms_nobody_is_ignored(
    scope: str, option: str, value: str, takes: str
) -> None:
    """One warning names it and the valid ones; the default counts (specification, "Enum")."""
    warnings: list[str] = []
    name = f"{GENERAL}{scope}{option}"
    assert read_otlp_config({name: value}, warnings.append) == read_otlp_config({})
    (warning,) = dict.fromkeys(warnings)
    assert warning.startswith(f"{name}={value!r} is invalid: use ")
    assert takes in warning


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_SDK_DISABLED", "1"),
        (f"{GENERAL}INSECURE", "yes"),
        (f"{GENERAL}LOGS_INSECURE", "yes"),
    ],
)
def test_a_wrong_flag_is_false(name: str, value: str) -> None:
    """So an endpoint without a scheme stays with TLS (specification, "Boolean")."""
    warnings: list[str] = []
    environ = GRPC | {f"{GENERAL}ENDPOINT": "collector:4317"}
    read = read_otlp_config({**environ, name: value}, warnings.append)
    assert read == read_otlp_config(environ)
    assert all(endpoint.secure for endpoint in read.endpoints)
    (warning,) = dict.fromkeys(warnings)
    assert warning.startswith(f"{name}={value!r} is invalid: use true or false.")


@pytest.mark.parametrize("content", [b"", b"\x30\x82\x01\x0a\x02\x82", b"not a certificate"])
def test_a_file_that_is_not_pem(content: bytes, tmp_path: Path) -> None:
    """It is reported at the start, not by a connection that always fails."""
    file = tmp_path / "ca.der"
    file.write_bytes(content)
    message = error_message({f"{GENERAL}CERTIFICATE": str(file)})
    assert message.startswith(f"{GENERAL}CERTIFICATE={str(file)!r} ")
    assert "PEM" in message


@pytest.mark.parametrize("scope", ["", "LOGS_", "TRACES_"])
@pytest.mark.parametrize(
    ("protocol", "value"),
    [
        (HTTP, "secret"),
        (HTTP, "=secret"),
        (HTTP, "ok=1,secret"),
        (HTTP, "two words=secret"),
        (HTTP, "a%3Ab=secret"),
        (HTTP, "a=secret%0Ab: c"),
        (HTTP, "a=secret%0D"),
        (HTTP, "a=secret%00"),
        (GRPC, "secret"),
        (GRPC, "a!=secret"),
        (GRPC, "a=secret%0Ab"),
        (GRPC, "a=secret%E4%B8%AD"),
    ],
)
def test_invalid_headers(scope: str, protocol: Mapping[str, str], value: str) -> None:
    """The message has none of their values."""
    name = f"{GENERAL}{scope}HEADERS"
    message = error_message({**protocol, name: value})
    assert message.startswith(f"{name} is invalid: use key=value pairs")
    assert "secret" not in message


@pytest.mark.parametrize("value", ["novalue", "=x", "a=1,b"])
def test_invalid_resource_attributes(value: str) -> None:
    message = error_message({"OTEL_RESOURCE_ATTRIBUTES": value})
    assert message == (
        "OTEL_RESOURCE_ATTRIBUTES is invalid: use key=value pairs, separated by commas."
    )


@pytest.mark.parametrize(
    ("protocol", "value"),
    [
        (HTTP, "ftp://me:secret@collector"),
        (HTTP, "http://me:secret@collector:99999"),
        (HTTP, "http://me:s/secret@collector:4318"),
        (HTTP, "http:/me:secret@collector:4318"),
        (HTTP, "me:secret@collector:4318"),
        (GRPC, "me:secret@collector:99999"),
    ],
)
def test_an_invalid_endpoint_with_a_password(protocol: Mapping[str, str], value: str) -> None:
    """The message has neither user nor password."""
    message = error_message({**protocol, f"{GENERAL}ENDPOINT": value})
    assert message.startswith(f"{GENERAL}ENDPOINT=")
    assert "collector" in message
    assert "secret" not in message
    assert "me:" not in message


@pytest.mark.parametrize(
    "environ",
    [{f"{GENERAL}TRACES_PROTOCOL": "grpc"}, {"OTEL_TRACES_EXPORTER": "otlp_proto_grpc"}],
)
def test_grpc_without_its_package(
    environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the extra that has it, and what works without."""
    monkeypatch.setitem(sys.modules, "grpc", None)
    assert error_message(environ) == (
        "OTLP/gRPC for traces needs a package that is not installed: run pip install "
        "'otel-oom[grpc]', or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf."
    )
