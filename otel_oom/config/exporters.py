"""The exporters of each signal: ``OTEL_LOGS_EXPORTER`` and the like, and the sampler of spans.

Specification: Environment Variable Specification, "Exporter Selection". A name that nothing has
would send the signal nowhere, so it is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from otel_oom.config.endpoint import GRPC, HTTP, JSON, Endpoint
from otel_oom.config.pod_events import PodEvents
from otel_oom.config.variable import Variable, Warn, read_variable
from otel_oom.model.channel import channel_name

PROMETHEUS: Final = "prometheus"
"""Metrics that are scraped; the agent serves them itself, with the package of that exporter."""

_NONE: Final = "none"
_OTLP: Final = {
    "otlp": "",
    "otlp_proto_http": HTTP,
    "otlp_json_http": JSON,
    "otlp_proto_grpc": GRPC,
}
"""The protocol of each name of an OTLP exporter: the entry points of Python's official packages.
``otlp`` alone leaves the protocol to its own variable."""

_TIMEOUTS: Final = {"logs": "OTEL_BLRP_EXPORT_TIMEOUT", "traces": "OTEL_BSP_EXPORT_TIMEOUT"}
_DEFAULT_TIMEOUT_MS: Final = 30_000
_MAX_TIMEOUT_MS: Final = 600_000
_MS_PER_S: Final = 1000

_ON: Final = ("parentbased_always_on", "always_on")
_OFF: Final = ("always_off", "parentbased_always_off")
"""Samplers that sample no span without a parent."""


class InstalledExporter(Struct, frozen=True):
    """Exporter of a signal from an installed package, by the name of its entry point.

    One call may take ``timeout_s`` seconds.
    """

    signal: str
    name: str
    timeout_s: float = _DEFAULT_TIMEOUT_MS / _MS_PER_S

    @property
    def channel(self) -> str:
        """Return its channel in the outbox."""
        return channel_name(self.signal, self.name)

    @property
    def host(self) -> str:
        """Return its destination: it backs off alone."""
        return self.channel

    @property
    def redacted_url(self) -> str:
        """Return its name for messages."""
        return f"exporter {self.name}"


Destination = Endpoint | InstalledExporter | PodEvents


class ExporterSelection(Struct, frozen=True):
    """Exporters of one signal; without any it is off.

    ``otlp_protocol`` is the protocol of OTLP, empty for that of the variables, ``None`` without.
    """

    otlp_protocol: str | None
    installed: tuple[InstalledExporter, ...] = ()

    @property
    def is_off(self) -> bool:
        """Return true without an exporter."""
        return self.otlp_protocol is None and not self.installed


def read_exporters(environ: Mapping[str, str], signal: str, warn: Warn) -> ExporterSelection:
    """Return the exporters of a list of names; each counts once. Raises ConfigError.

    ``warn`` gets a sentence about a wrong timeout.
    """
    variable = read_variable(environ, f"OTEL_{signal.upper()}_EXPORTER", default="otlp")
    names = dict.fromkeys(name.strip() for name in variable.text.split(",") if name.strip())
    if [name.lower() for name in names] == [_NONE]:
        return ExporterSelection(None)
    otlp = list(dict.fromkeys(name.lower() for name in names if name.lower() in _OTLP))
    others = [name for name in names if name.lower() not in _OTLP]
    if len(otlp) > 1 or not names:
        raise variable.error(f"one of {', '.join(_OTLP)}, other exporters beside it, or {_NONE}")
    installed: tuple[InstalledExporter, ...] = ()
    if others:
        spelled = [_find_entry_point(variable, signal, name) for name in others]
        timeout_s = _read_timeout_s(environ, signal, warn)
        installed = tuple(
            InstalledExporter(signal, name, timeout_s) for name in dict.fromkeys(spelled)
        )
    return ExporterSelection(_OTLP[otlp[0]] if otlp else None, installed)


def _find_entry_point(variable: Variable, signal: str, name: str) -> str:
    """Return the name as the package spells it."""
    from importlib.metadata import entry_points  # noqa: PLC0415  OTLP alone needs no search

    group = sorted(entry_points(group=f"opentelemetry_{signal}_exporter").names - _OTLP.keys())
    exact = [each for each in group if each == name]
    similar = exact or [each for each in group if each.lower() == name.lower()]
    if not similar:
        if name.lower() == PROMETHEUS:
            raise variable.error("pip install 'otel-oom[prometheus]' to be scraped, or otlp")
        several = " or ".join((*_OTLP, *group))
        raise variable.error(f"{several}, several separated by commas, or {_NONE} alone")
    return similar[0]


def _read_timeout_s(environ: Mapping[str, str], signal: str, warn: Warn) -> float:
    name = _TIMEOUTS.get(signal)
    if name is None:
        return _DEFAULT_TIMEOUT_MS / _MS_PER_S
    variable = read_variable(environ, name, default=str(_DEFAULT_TIMEOUT_MS))
    accepted = f"milliseconds up to {_MAX_TIMEOUT_MS}"
    number = variable.positive_or_warn(warn, _MAX_TIMEOUT_MS, accepted, _DEFAULT_TIMEOUT_MS)
    return number / _MS_PER_S


def read_off_sampler(environ: Mapping[str, str], warn: Warn) -> str:
    """Return the sampler if it samples no kill; empty if it samples all.

    ``warn`` gets a sentence about any other: a part of the kills is no choice.
    """
    variable = read_variable(environ, "OTEL_TRACES_SAMPLER", default=_ON[0])
    sampler = variable.choice_or_warn(warn, *_ON, *_OFF)
    return sampler if sampler in _OFF else ""
