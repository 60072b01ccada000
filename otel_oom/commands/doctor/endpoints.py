"""Checks of delivery: an empty request to each endpoint, and misspelt variables."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from msgspec.structs import replace

from otel_oom.commands.doctor import FAIL, OK, WARN, Check
from otel_oom.config.metrics import read_metrics_config
from otel_oom.config.otlp import Endpoint, otlp_variables, read_otlp_config, unknown_otlp_variables
from otel_oom.config.variable import ConfigError
from otel_oom.export.exporter import create_transport
from otel_oom.export.result import ExportResult

_TIMEOUT_S: Final = 5.0
_LONG_TIMEOUT_S: Final = 600.0


def check_delivery() -> Iterator[Check]:
    """Check the endpoints, and look for variables that nothing reads."""
    yield from _endpoints()
    yield from _unknown_variables()


def _endpoints() -> Iterator[Check]:
    try:
        config = read_otlp_config(os.environ)
    except ConfigError as error:
        # From the right: the value, which the message shows, may contain a colon.
        detail, _, advice = str(error).rpartition(": ")
        yield Check("settings", FAIL, detail, advice[:1].upper() + advice[1:])
        return
    if config.disabled:
        advice = "Kills are stored, but not sent. Unset it to send them."
        yield Check("settings", WARN, "OTEL_SDK_DISABLED is true", advice)
        return
    for endpoint in config.endpoints:
        yield _endpoint(endpoint)
    yield from _metrics()


def _metrics() -> Iterator[Check]:
    """Check the endpoint of the agent's own metrics, which never delay a kill."""
    name = "metrics endpoint"
    try:
        config = read_metrics_config(os.environ)
    except ConfigError as error:
        advice = "No metrics are sent. OTEL_METRICS_EXPORTER=none silences this warning."
        yield Check(name, WARN, str(error), advice)
        return
    if config is None:
        yield Check(name, OK, "no metrics are sent, because of OTEL_METRICS_EXPORTER")
        return
    check = _endpoint(config.endpoint)
    if check.state == FAIL:
        advice = "Kills are sent all the same. OTEL_METRICS_EXPORTER=none sends no metrics."
        check = replace(check, state=WARN, advice=advice)
    yield check


def _endpoint(endpoint: Endpoint) -> Check:
    """Send an empty request, which every OTLP server accepts."""
    name = f"{endpoint.signal} endpoint"
    where = f"{endpoint.redacted_url} ({endpoint.protocol})"
    try:
        transport = create_transport(
            dataclasses.replace(endpoint, timeout_s=min(endpoint.timeout_s, _TIMEOUT_S))
        )
    except (OSError, ValueError) as error:
        return Check(name, FAIL, f"{where}: {error}", "Check the certificate and key files.")
    response = transport.send(b"")
    transport.close()
    if response.result is ExportResult.ACCEPTED:
        if endpoint.timeout_s <= _LONG_TIMEOUT_S:
            return Check(name, OK, f"{where} accepts requests")
        detail = f"{where} accepts requests, with a timeout of {endpoint.timeout_s:g} s"
        advice = "OTEL_EXPORTER_OTLP_TIMEOUT is in seconds, as in OpenTelemetry's Python exporters."
        return Check(name, WARN, detail, advice)
    advice = (
        "Is it up, and is OTEL_EXPORTER_OTLP_ENDPOINT right? Until then kills wait on disk."
        if response.result is ExportResult.RETRYABLE
        else "It responds, but rejects: check its address, protocol and credentials."
    )
    return Check(name, FAIL, f"{where}: {response.reason}", advice)


def _unknown_variables() -> Iterator[Check]:
    for name in unknown_otlp_variables(os.environ):
        similar = get_close_matches(name, otlp_variables(), n=1)
        advice = f"Did you mean {similar[0]}?" if similar else "Unset it."
        yield Check("settings", WARN, f"{name} is not a known variable", advice)
