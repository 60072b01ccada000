"""Names of metrics and attributes as Prometheus, Loki and VictoriaLogs have them.

Each name is looked up in the registry of the agent: a name that it does not have is an error.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

REPOSITORY: Final = Path(__file__).parents[2]
_REGISTRY: Final = REPOSITORY / "otel_oom/otlp/registry"
_UNITS: Final = {"By": "bytes", "s": "seconds"}
"""Units that Prometheus' translation of OTLP appends to a name."""
_IMPORTED: Final = {
    "otel.sdk.exporter.log.exported": "total",
    "otel.sdk.exporter.span.exported": "total",
    "otel.sdk.exporter.operation.duration": "seconds",
    "otel.sdk.processor.log.queue.size": "",
    "otel.sdk.processor.span.queue.size": "",
    "process.cpu.time": "seconds_total",
    "process.memory.usage": "bytes",
    "process.uptime": "seconds",
}
"""Ends of the names of OpenTelemetry's own metrics, whose units the registry does not repeat."""
_FROM_THE_USER: Final = frozenset({"k8s.cluster.name"})
"""Attributes that ``OTEL_RESOURCE_ATTRIBUTES`` of the agent sets."""


def metric(name: str) -> str:
    """Return Prometheus' name of a metric; that of a histogram lacks ``_bucket`` and the like.

    The translation is that of Prometheus' OTLP receiver, of its exporter and of the Collector.

    Raises:
        KeyError: the registry has no such metric.
    """
    groups, imports = _read_registry()
    group = groups.get(f"metric.{name}")
    if group is None:
        if name not in imports:
            raise KeyError(name)
        end = _IMPORTED[name]
    else:
        unit = _UNITS.get(group["unit"], "")
        end = "_".join(filter(None, [unit, "total" if group["instrument"] == "counter" else ""]))
    return "_".join(filter(None, [_escape(name), end]))


def label(attribute: str) -> str:
    """Return the name of an attribute in Prometheus and Loki.

    Raises:
        KeyError: the registry has no such attribute.
    """
    return _escape(field(attribute))


def field(attribute: str) -> str:
    """Return the name of an attribute in VictoriaLogs, which is the attribute's own.

    Raises:
        KeyError: the registry has no such attribute.
    """
    if attribute not in _read_attributes():
        raise KeyError(attribute)
    return attribute


def event(name: str) -> str:
    """Return the name of a log event.

    Raises:
        KeyError: the registry has no such event.
    """
    if f"event.{name}" not in _read_registry()[0]:
        raise KeyError(name)
    return name


def _escape(name: str) -> str:
    return re.sub(r"\W", "_", name)


@cache
def _read_registry() -> tuple[dict[str, Any], frozenset[str]]:
    """Return all groups by id, and the names of imported metrics."""
    files = [
        yaml.load(path.read_bytes(), yaml.CSafeLoader)
        for path in sorted(_REGISTRY.rglob("*.yaml"))
        if path.name != "manifest.yaml"
    ]
    groups = {group["id"]: group for file in files for group in file.get("groups", ())}
    metrics = (name for file in files for name in file.get("imports", {}).get("metrics", ()))
    return groups, frozenset(metrics)


@cache
def _read_attributes() -> frozenset[str]:
    """Return the attributes that are defined or used; a template's without its keys."""
    groups = _read_registry()[0].values()
    uses = [use for group in groups for use in group.get("attributes", ())]
    return _FROM_THE_USER.union(str(use.get("id") or use["ref"]) for use in uses)
