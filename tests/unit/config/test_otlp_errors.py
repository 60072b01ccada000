"""Wrong settings: found before anything is sent, and told without giving a secret away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from otel_oom.config.otlp import read_otlp_config
from otel_oom.config.variable import ConfigError

GENERAL = "OTEL_EXPORTER_OTLP_"
HTTP = {f"{GENERAL}PROTOCOL": "http/protobuf"}
GRPC = {f"{GENERAL}PROTOCOL": "grpc"}


def message(environ: Mapping[str, str]) -> str:
    """What the user is told about ``environ``."""
    with pytest.raises(ConfigError) as caught:
        read_otlp_config(environ)
    return str(caught.value)


URLS = [
    "collector",
    "ftp://collector",
    "http://",
    "http:///v1/logs",
    "http://collector:0",
    "http://collector:99999",
    "http://collector:port",
    "http://[::1",
    "http://collector..example:4318",
    "http://" + "a" * 64 + ".example:4318",
    "http://local host:4318",
    "http://collector:4318/a b",
    "http://collector:4318/ü",
]


@pytest.mark.parametrize("name", ["ENDPOINT", "LOGS_ENDPOINT", "TRACES_ENDPOINT"])
@pytest.mark.parametrize("value", URLS)
def test_an_endpoint_that_is_no_url(name: str, value: str) -> None:
    """An endpoint that could never be reached is named, with its value and an example."""
    said = message(HTTP | {GENERAL + name: value})
    assert said.startswith(f"{GENERAL}{name}={value!r} ")
    assert "http://localhost:4318" in said


@pytest.mark.parametrize("value", ["unix:///run/otlp.sock", "collector:port", "a..b:4317", ":4317"])
def test_a_grpc_endpoint_that_cannot_be_used(value: str) -> None:
    """A target for gRPC is a URL or host:port."""
    said = message(GRPC | {f"{GENERAL}ENDPOINT": value})
    assert said.startswith(f"{GENERAL}ENDPOINT={value!r} ")


@pytest.mark.parametrize(
    ("option", "value", "takes"),
    [
        ("PROTOCOL", "http/json", ("http/protobuf", "grpc")),
        ("PROTOCOL", "GRPC", ("http/protobuf", "grpc")),
        ("TIMEOUT", "10s", ("seconds",)),
        ("TIMEOUT", "0", ("seconds",)),
        ("TIMEOUT", "-1", ("seconds",)),
        ("TIMEOUT", "nan", ("seconds",)),
        ("TIMEOUT", "inf", ("seconds",)),
        ("TIMEOUT", "1e300", ("seconds",)),
        ("COMPRESSION", "deflate", ("gzip", "none")),
        ("CERTIFICATE", "/nowhere/ca.pem", ("PEM",)),
        ("CLIENT_KEY", "/nowhere", ("key", "CLIENT_CERTIFICATE")),
        ("CLIENT_CERTIFICATE", "/nowhere", ("PEM",)),
    ],
)
@pytest.mark.parametrize("scope", ["", "LOGS_", "TRACES_"])
def test_a_wrong_value(scope: str, option: str, value: str, takes: tuple[str, ...]) -> None:
    """The message names the variable that the user set, its value and what it takes."""
    name = f"{GENERAL}{scope}{option}"
    said = message({name: value})
    assert said.startswith(f"{name}={value!r} is invalid: use ")
    assert all(word in said for word in takes)


@pytest.mark.parametrize("scope", ["", "LOGS_"])
def test_a_wrong_insecure(scope: str) -> None:
    """INSECURE takes true or false and says so where it counts, with gRPC."""
    name = f"{GENERAL}{scope}INSECURE"
    said = message(GRPC | {f"{GENERAL}ENDPOINT": "collector:4317", name: "yes"})
    assert said == f"{name}='yes' is invalid: use true or false."


def test_a_wrong_main_switch() -> None:
    """OTEL_SDK_DISABLED takes true or false."""
    said = message({"OTEL_SDK_DISABLED": "1"})
    assert said == "OTEL_SDK_DISABLED='1' is invalid: use true or false."


@pytest.mark.parametrize("content", [b"", b"\x30\x82\x01\x0a\x02\x82", b"not a certificate"])
def test_a_file_that_is_not_pem(content: bytes, tmp_path: Path) -> None:
    """A certificate in another form is found at the start, not by failing to connect for ever."""
    file = tmp_path / "ca.der"
    file.write_bytes(content)
    said = message({f"{GENERAL}CERTIFICATE": str(file)})
    assert said.startswith(f"{GENERAL}CERTIFICATE={str(file)!r} ")
    assert "PEM" in said


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
def test_wrong_headers(scope: str, protocol: Mapping[str, str], value: str) -> None:
    """Headers that the protocol can't carry are refused, and none of their values is shown."""
    name = f"{GENERAL}{scope}HEADERS"
    said = message({**protocol, name: value})
    assert said.startswith(f"{name} is invalid: use key=value pairs")
    assert "secret" not in said


@pytest.mark.parametrize("value", ["novalue", "=x", "a=1,b"])
def test_wrong_resource_attributes(value: str) -> None:
    """OTEL_RESOURCE_ATTRIBUTES takes key=value pairs."""
    said = message({"OTEL_RESOURCE_ATTRIBUTES": value})
    assert said == (
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
def test_a_wrong_endpoint_with_a_password(protocol: Mapping[str, str], value: str) -> None:
    """What is said about a wrong endpoint holds no user and no password."""
    said = message({**protocol, f"{GENERAL}ENDPOINT": value})
    assert said.startswith(f"{GENERAL}ENDPOINT=")
    assert "collector" in said
    assert "secret" not in said
    assert "me:" not in said
