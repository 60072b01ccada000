"""Attributes of the agent's metrics that describe the agent itself and its exporters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.util.types import AttributeValue

from otel_oom import __version__
from otel_oom.config.endpoint import GRPC, HTTP, JSON
from otel_oom.config.exporters import Destination, InstalledExporter
from otel_oom.config.pod_events import PodEvents
from otel_oom.export.exporter import SignalExporter
from otel_oom.otlp import semconv

SERVICE_NAME: Final = "otel-oom"
ITEMS: Final = {"logs": "log", "traces": "span"}
"""Signals, and the name of their items in the names of conventional metrics."""

_TRANSPORTS: Final = {GRPC: "grpc", HTTP: "http", JSON: "http_json"}
"""Parts of the conventional component types."""
_PORTS: Final = {"http": 80, "https": 443}
_QUEUE: Final = f"{SignalExporter.__module__}.{SignalExporter.__qualname__}"
"""Component type of the queue; the conventions want the language's own name of it."""


def agent_resource(service_name: str, attributes: Mapping[str, AttributeValue]) -> Resource:
    """Return the resource of the agent: host ``attributes`` and service.

    One agent runs on a host. So the host's id is the instance's as well: it survives restarts, as
    the count of kills does.
    """
    instance = attributes.get("host.id") or attributes.get("host.name", "")
    resource = {
        "service.name": SERVICE_NAME,
        "service.version": __version__,
        "service.instance.id": instance,
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": sdk_version,
        **attributes,
        **({"service.name": service_name} if service_name else {}),
    }
    # Never Resource.create(): it imports all installed detectors.
    return Resource(resource, semconv.SCHEMA_URL)


def exporter_attributes(endpoint: Destination) -> dict[str, str | int]:
    """Return the conventional attributes of an exporter: its type, name and server.

    Of one of an installed package only its name is known.
    """
    if isinstance(endpoint, PodEvents):
        component = "kubernetes_event_exporter"
        return {"otel.component.type": component, "otel.component.name": f"{component}/0"}
    if isinstance(endpoint, InstalledExporter):
        component = f"{endpoint.name}_{ITEMS[endpoint.signal]}_exporter"
        return {"otel.component.type": component, "otel.component.name": f"{component}/0"}
    component = f"otlp_{_TRANSPORTS[endpoint.protocol]}_{ITEMS[endpoint.signal]}_exporter"
    url = urlsplit(endpoint.url)
    port = _PORTS.get(url.scheme) if url.port is None else url.port
    return {
        "otel.component.type": component,
        "otel.component.name": f"{component}/0",
        "server.address": url.hostname or endpoint.target,
        **({"server.port": port} if port else {}),
    }


def queue_attributes(channel: str) -> dict[str, str]:
    """Return the conventional attributes of a channel of the outbox."""
    return {"otel.component.type": _QUEUE, "otel.component.name": f"{_QUEUE}/{channel}"}
