"""Checks of delivery: an empty request to each endpoint, and misspelt variables."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.agent.control_server import ControlError, NoAgentError, send_request
from otel_oom.commands.doctor import FAIL, OK, WARN, Check
from otel_oom.config.agent import OWN_VARIABLES, read_export_config
from otel_oom.config.endpoint import Endpoint
from otel_oom.config.exporters import InstalledExporter
from otel_oom.config.file import apply_config_file
from otel_oom.config.filters import DROP_ATTRIBUTES, FilterConfig, read_filters
from otel_oom.config.metrics import (
    MetricsConfig,
    ScrapeAddress,
    read_metrics_config,
    read_owner_names,
)
from otel_oom.config.otlp import OtlpConfig
from otel_oom.config.pod_events import PodEvents
from otel_oom.config.standard_variables import otlp_variables, unread_variables
from otel_oom.config.variable import ConfigError
from otel_oom.export.exporter import create_transport
from otel_oom.export.result import ExportResult, sanitize_reason
from otel_oom.model.channel import channel_name

_TIMEOUT_S: Final = 5.0


def check_delivery(state_dir: Path) -> Iterator[Check]:
    """Check the endpoints, and look for variables that nothing reads.

    The agent of ``state_dir``, if one runs, knows how far other exporters than OTLP are.
    """
    warnings: list[str] = []
    try:
        environ = apply_config_file(os.environ, warnings.append)
        config = read_export_config(environ, warnings.append)
        metrics = read_metrics_config(environ, warnings.append)
        filters = read_filters(environ)
        read_owner_names(environ)
    except ConfigError as error:
        # From the right: the value, which the message shows, may contain a colon.
        detail, _, advice = str(error).rpartition(": ")
        yield Check("settings", FAIL, detail, advice[:1].upper() + advice[1:])
    else:
        yield from _endpoints(config, metrics, state_dir)
        yield from _filters(filters)
    # Signals share variables.
    for warning in dict.fromkeys(warnings):
        yield Check("settings", WARN, warning)
    yield from _unread_variables()


def _endpoints(
    config: OtlpConfig, metrics: MetricsConfig | None, state_dir: Path
) -> Iterator[Check]:
    if config.disabled:
        advice = "Kills are stored, but not sent. Unset it to send them."
        yield Check("settings", WARN, "OTEL_SDK_DISABLED is true", advice)
        return
    for signal, setting in config.signals_off.items():
        yield Check(f"{signal} endpoint", OK, f"no {signal} are sent: {setting}")
    progress = _read_progress(state_dir) if config.exporters else {}
    for destination in config.destinations:
        match destination:
            case Endpoint():
                yield _endpoint(destination)
            case InstalledExporter(signal=signal, name=name, channel=channel):
                yield _installed(signal, name, progress.get(channel, ""))
            case PodEvents():
                yield _pod_events(destination)
    yield from _metrics(metrics)


def _metrics(metrics: MetricsConfig | None) -> Iterator[Check]:
    if metrics is None:
        yield Check("metrics endpoint", OK, "no metrics are sent: OTEL_METRICS_EXPORTER=none")
        return
    checks = [_endpoint(metrics.endpoint)] if metrics.endpoint else []
    for check in (*checks, *(_installed("metrics", name) for name in metrics.exporters)):
        if check.state == FAIL:
            # The agent's own metrics never delay a kill.
            advice = "Kills are sent all the same. OTEL_METRICS_EXPORTER=none sends no metrics."
            yield replace(check, state=WARN, advice=advice)
        else:
            yield check
    if metrics.scrape_address:
        yield _scrape_address(metrics.scrape_address)


def _scrape_address(address: ScrapeAddress) -> Check:
    """Connect to the port of the agent, which is open while it runs."""
    title, where = "metrics port", f"{address.host}:{address.port}"
    try:
        socket.create_connection((address.host, address.port), _TIMEOUT_S).close()
    except OSError as error:
        advice = "The agent opens it while it runs. Kills are sent all the same."
        return Check(title, WARN, f"Prometheus can't scrape {where}: {error}", advice)
    return Check(title, OK, f"Prometheus can scrape {where}, path /metrics")


def _read_progress(state_dir: Path) -> dict[str, str]:
    """Return how far each exporter of a running agent is, by channel; empty without an agent."""
    try:
        queue = send_request(state_dir, {"method": "queue"}, _TIMEOUT_S)
    except (OSError, ControlError, NoAgentError):
        return {}
    waiting = {backlog["channel"]: backlog["count"] for backlog in queue["waiting"]}
    progress = {}
    for row in queue["exporters"]:
        channel = channel_name(row["signal"], row["exporter"])
        progress[channel] = (
            f"; accepted {row['accepted']}, rejected {row['rejected']},"
            f" waiting {waiting.get(channel, 0)}"
        )
    return progress


def _installed(signal: str, name: str, progress: str = "") -> Check:
    """Import the package of an exporter; nothing is sent."""
    from otel_oom.export.installed import find_entry_point  # noqa: PLC0415  OTLP needs none

    title = f"{signal} exporter"
    try:
        entry_point = find_entry_point(signal, name)
        entry_point.load()
    except Exception as error:  # noqa: BLE001  of any package
        reason = sanitize_reason(f"{name}: {type(error).__name__}: {error}")
        advice = "Install its package where otel-oom is installed. Until then kills wait on disk."
        return Check(title, FAIL, reason, advice)
    package = f" ({entry_point.dist.name} {entry_point.dist.version})" if entry_point.dist else ""
    return Check(title, OK, f"{name}{package} is installed{progress}")


def _filters(filters: FilterConfig) -> Iterator[Check]:
    names = (*filters.excluders, *([DROP_ATTRIBUTES] if filters.dropped_attributes else []))
    if names:
        detail = f"{', '.join(names)}; otel-oom queue counts what is excluded"
        yield Check("filters", OK, detail)


def _endpoint(endpoint: Endpoint) -> Check:
    """Send an empty request, which every OTLP server accepts."""
    name = f"{endpoint.signal} endpoint"
    where = f"{endpoint.redacted_url} ({endpoint.protocol})"
    try:
        transport = create_transport(
            replace(endpoint, timeout_s=min(endpoint.timeout_s, _TIMEOUT_S))
        )
    except (OSError, ValueError) as error:
        return Check(name, FAIL, f"{where}: {error}", "Check the certificate and key files.")
    response = transport.send(b"")
    transport.close()
    if response.result is ExportResult.ACCEPTED:
        detail = f"{where} accepts requests; timeout {endpoint.timeout_s:g} s"
        return Check(name, OK, detail)
    advice = (
        "Is it up, and is OTEL_EXPORTER_OTLP_ENDPOINT right? Until then kills wait on disk."
        if response.result is ExportResult.RETRYABLE
        else "It responds, but rejects: check its address, protocol and credentials."
    )
    return Check(name, FAIL, f"{where}: {response.reason}", advice)


def _pod_events(pod_events: PodEvents) -> Check:
    """Query the API server for the right; no Event is created."""
    from otel_oom.export.pod_events import PodEventTransport  # noqa: PLC0415  few hosts need it

    transport = PodEventTransport(pod_events)
    response = transport.check()
    transport.close()
    where = pod_events.api.redacted_url
    if response.result is ExportResult.ACCEPTED:
        return Check("pod events", OK, f"{where} lets the service account create Events")
    advice = "Kills are sent to the OTLP endpoint all the same."
    return Check("pod events", FAIL, f"{where}: {response.reason}", advice)


def _unread_variables() -> Iterator[Check]:
    for name, reason in unread_variables(os.environ, OWN_VARIABLES).items():
        similar = get_close_matches(name, otlp_variables() | OWN_VARIABLES, n=1)
        advice = f"Did you mean {similar[0]}?" if similar else "docs/configuration.md lists them."
        yield Check("settings", WARN, f"{name} is not read: {reason}", advice)
