"""The ``OTEL_*`` variables of the export: signals, endpoints and the host's own attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from otel_oom.config.endpoint import Endpoint, read_endpoint
from otel_oom.config.entities import read_entities
from otel_oom.config.exporters import (
    Destination,
    InstalledExporter,
    read_exporters,
    read_off_sampler,
)
from otel_oom.config.limits import NO_LIMITS, TelemetryLimits, read_limits
from otel_oom.config.pod_events import PodEvents
from otel_oom.config.variable import Warn, log_warning, read_variable

SIGNALS: Final = ("logs", "traces")


class OtlpConfig(Struct, frozen=True):
    """Destinations of the signals that are sent, attributes of the host, and the main switch.

    ``detectors`` are the names of the resource detectors that describe the host.
    """

    endpoints: tuple[Endpoint, ...]
    resource: Mapping[str, str]
    disabled: bool
    detectors: tuple[str, ...] = ()
    signals_off: Mapping[str, str] = field(default_factory=dict)
    """Signals that are neither encoded nor queued nor sent, and the setting that says so."""
    limits: TelemetryLimits = NO_LIMITS
    exporters: tuple[InstalledExporter | PodEvents, ...] = ()

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Return all exporters: of OTLP, of installed packages, and of pod events."""
        return (*self.endpoints, *self.exporters)

    @property
    def signals(self) -> frozenset[str]:
        """Return the signals that are sent."""
        return frozenset(each.signal for each in self.destinations)

    @property
    def channels(self) -> Mapping[str, tuple[str, ...]]:
        """Return the channels of each signal that is sent."""
        return {
            signal: tuple(each.channel for each in self.destinations if each.signal == signal)
            for signal in SIGNALS
            if signal in self.signals
        }


def read_otlp_config(environ: Mapping[str, str], warn: Warn = log_warning) -> OtlpConfig:
    """Return the settings in ``environ``.

    ``warn`` gets a sentence for each value that is ignored. Raises ConfigError for others.
    """
    selected = {signal: read_exporters(environ, signal, warn) for signal in SIGNALS}
    signals_off = {
        signal: f"OTEL_{signal.upper()}_EXPORTER=none"
        for signal, selection in selected.items()
        if selection.is_off
    }
    if sampler := read_off_sampler(environ, warn):
        signals_off.setdefault("traces", f"OTEL_TRACES_SAMPLER={sampler}")
    return OtlpConfig(
        endpoints=tuple(
            read_endpoint(environ, signal, warn, selection.otlp_protocol)
            for signal, selection in selected.items()
            if signal not in signals_off and selection.otlp_protocol is not None
        ),
        resource=read_resource(environ, warn),
        disabled=read_variable(environ, "OTEL_SDK_DISABLED").flag_or_warn(warn),
        detectors=read_detectors(environ),
        signals_off=signals_off,
        limits=read_limits(environ, warn),
        exporters=tuple(
            exporter
            for signal, selection in selected.items()
            if signal not in signals_off
            for exporter in selection.installed
        ),
    )


def read_resource(environ: Mapping[str, str], warn: Warn = log_warning) -> dict[str, str]:
    """Return the user's attributes of the host; ``warn`` and errors as above."""
    # The manifest of a pod passes the name of its node.
    node = read_variable(environ, "K8S_NODE_NAME").text
    return {
        **({"k8s.node.name": node} if node else {}),
        **read_entities(environ, warn),
        **dict(read_variable(environ, "OTEL_RESOURCE_ATTRIBUTES").pairs()),
    }


def read_detectors(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the resource detectors that describe the host."""
    names = read_variable(environ, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS").text.split(",")
    # `otel` is the SDK's own detector, for OTEL_RESOURCE_ATTRIBUTES.
    return tuple(name.strip() for name in names if name.strip() not in {"", "otel"})
