"""Redaction: no part of a URL but scheme, host and port is shown, however malformed it is."""

from __future__ import annotations

from base64 import b64decode

import pytest

from otel_oom.config.otlp import read_otlp_config
from otel_oom.config.redaction import redact_secrets, redact_url, redact_value
from otel_oom.config.variable import Variable


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://collector:4318", "https://collector:4318"),
        ("https://collector/s3cret", "https://collector"),
        ("https://collector?api_key=s3cret", "https://collector"),
        ("https://collector#s3cret", "https://collector"),
        ("https://me:s3cret@collector:4318/x", "https://collector:4318"),
        ("https://s3cret@[::1]:4318/x", "https://[::1]:4318"),
        ("me:s3cret@collector:4318", "collector:4318"),
        ("https://me:s3/cret@collector:4318/x", "https://collector:4318"),
        ("https://collector/@s3cret/v1", "https://"),
        ("https://me:12/s3cret@collector", "https://"),
        ("https://s3?cret@collector", "https://"),
        ("https://s3#cret@collector", "https://"),
        ("https://me:s3 cret@collector", "https://collector"),
        ("https://me:s3@cret@collector", "https://collector"),
        ("https://collector:s3cret", "https://collector"),
        ("https:/me:s3cret", "https"),
        ("https:\\\\collector\\s3cret", "https"),
        ("collector&api_key=s3cret", "collector"),
        ("https://collector;key=s3cret", "https://collector"),
        ("https://collector%2Fs3cret", "https://collector"),
        ("https://collector:4318 api-key: s3cret", "https://collector:4318"),
        ("https://collector\ns3cret", "https://collector"),
        ("https://[::1%s3cret]", "https://[::1"),
        ("https://[s3cret]:4318", "https://["),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_a_shown_host_is_bounded() -> None:
    assert len(redact_url("https://" + "a" * 100_000)) < 300


@pytest.mark.parametrize(
    ("text", "shown"),
    [("10s", "10s"), ("/etc/ca.pem", "/etc/ca.pem"), ("api_key=s3cret", ""), ("u:s3cret@h", "")],
)
def test_another_value_is_shown_unless_it_may_be_secret(text: str, shown: str) -> None:
    assert redact_value(text) == shown


def test_a_url_in_the_wrong_variable_is_not_shown() -> None:
    error = Variable("OTEL_EXPORTER_OTLP_TIMEOUT", "https://collector/s3cret").error("seconds")
    assert str(error) == "OTEL_EXPORTER_OTLP_TIMEOUT is invalid: use seconds."


def test_a_password_in_another_encoding_is_sent_as_it_is() -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:s3cret\udcff@collector"}
    (_, value), *_ = read_otlp_config(environ).endpoints[0].headers
    assert b64decode(value.removeprefix("Basic ")) == b"me:s3cret\xff"


@pytest.mark.parametrize(
    "echo",
    [
        "no such path: /tenant-s3cret/v1/logs",
        "bad key s3cret-query",
        "bad query api_key=s3cret-query",
        "wrong token s3cret-token",
        "wrong password s3cret pw",
        "wrong authorization bWU6czNjcmV0IHB3",
    ],
)
def test_what_a_backend_echoes_is_redacted(echo: str) -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:s3cret%20pw@collector/tenant-s3cret",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://me:s3cret%20pw@collector/tenant-s3cret/v1/logs"
        "?api_key=s3cret-query",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-token=Bearer%20s3cret-token",
    }
    logs = read_otlp_config(environ).endpoints[0]
    shown = redact_secrets(echo, logs.secrets)
    assert "s3cret" not in shown
    assert "bWU6" not in shown
