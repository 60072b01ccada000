"""Where kills are sent: each endpoint is asked by an empty request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from typing import Final

from otel_oom.commands.doctor.check import FAIL, OK, WARN, Check
from otel_oom.config.endpoint import Endpoint, otlp_variables, unknown_otlp_variables
from otel_oom.config.metrics import read_metrics_config
from otel_oom.config.otlp import read_otlp_config
from otel_oom.config.variable import ConfigError
from otel_oom.export.exporter import create_transport
from otel_oom.export.result import ExportResult

_ENDPOINT_S: Final = 5.0
_LONG_TIMEOUT_S: Final = 600.0


def delivery() -> Iterator[Check]:
    """The endpoints, and variables that look like settings and are none."""
    yield from _endpoints()
    yield from _misspelt()


def _endpoints() -> Iterator[Check]:
    try:
        read = read_otlp_config(os.environ)
    except ConfigError as error:
        # From the right: the value itself, which is shown, may hold a colon.
        detail, _, advice = str(error).rpartition(": ")
        yield Check("settings", FAIL, detail, advice[:1].upper() + advice[1:])
        return
    if read.disabled:
        advice = "Kills are kept on disk and not sent. Unset it to send."
        yield Check("settings", WARN, "OTEL_SDK_DISABLED is true", advice)
        return
    for endpoint in read.endpoints:
        yield _endpoint(endpoint)
    yield from _metrics()


def _metrics() -> Iterator[Check]:
    """Metrics are the agent's own: what is wrong with them is in no kill's way."""
    name, off = "metrics endpoint", "OTEL_METRICS_EXPORTER=none sends no metrics"
    try:
        read = read_metrics_config(os.environ)
    except ConfigError as error:
        yield Check(name, WARN, str(error), f"No metrics are sent. {off}, and says nothing.")
        return
    if read is None:
        yield Check(name, OK, "none are sent, as OTEL_METRICS_EXPORTER says")
        return
    found = _endpoint(read.endpoint)
    if found.state == FAIL:
        advice = f"Kills are not concerned. {off}."
        found = replace(found, state=WARN, advice=advice)
    yield found


def _endpoint(endpoint: Endpoint) -> Check:
    """Send an empty request, which every OTLP server takes."""
    name = f"{endpoint.signal} endpoint"
    where = f"{endpoint.redacted_url} ({endpoint.protocol})"
    try:
        impatient = replace(endpoint, timeout_s=min(endpoint.timeout_s, _ENDPOINT_S))
        transport = create_transport(impatient)
    except (OSError, ValueError) as error:
        return Check(name, FAIL, f"{where}: {error}", "Check the certificate and key files.")
    answer = transport.send(b"")
    transport.close()
    if answer.result is ExportResult.ACCEPTED and endpoint.timeout_s > _LONG_TIMEOUT_S:
        advice = "OTEL_EXPORTER_OTLP_TIMEOUT is in seconds, as in OpenTelemetry's Python exporters."
        return Check(name, WARN, f"{where} answers, with {endpoint.timeout_s:g} s to do so", advice)
    if answer.result is ExportResult.ACCEPTED:
        return Check(name, OK, f"{where} answers")
    advice = (
        "Is it up, and is OTEL_EXPORTER_OTLP_ENDPOINT right? What is captured waits on disk."
        if answer.result is ExportResult.RETRYABLE
        else "It answers, and refuses: check its address, protocol and credentials."
    )
    return Check(name, FAIL, f"{where}: {answer.reason}", advice)


def _misspelt() -> Iterator[Check]:
    for name in unknown_otlp_variables(os.environ):
        near = get_close_matches(name, otlp_variables(), n=1)
        advice = f"Did you mean {near[0]}?" if near else "Unset it."
        yield Check("settings", WARN, f"{name} is not a variable that is read", advice)
