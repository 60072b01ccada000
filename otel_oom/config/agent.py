"""All settings of ``otel-oom run`` that come from the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from otel_oom.config.metrics import MetricsConfig, read_metrics_config
from otel_oom.config.otlp import OtlpConfig, read_otlp_config
from otel_oom.config.store import StoreLimits, read_report_interval_s, read_store_limits
from otel_oom.config.variable import ConfigError, read_variable
from otel_oom.model.units import US_PER_S

CONTAINER_LABELS: Final = "OTEL_OOM_CONTAINER_LABELS"
CLAIMED_IDENTITY: Final = "OTEL_OOM_CLAIMED_IDENTITY"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Settings of the agent; ``metrics`` is ``None`` if it sends none of its own.

    Within ``report_interval_s`` a container's kills share one kernel report; 0: each has its own.
    ``claimed_identity`` is whether a victim's own environment may name its service.
    """

    otlp: OtlpConfig
    metrics: MetricsConfig | None = None
    store_limits: StoreLimits = field(default_factory=StoreLimits)
    container_labels: frozenset[str] = frozenset()
    claimed_identity: bool = True
    report_interval_s: int = 0


def read_agent_config(environ: Mapping[str, str]) -> AgentConfig:
    """Return the settings in ``environ``. Raises ConfigError."""
    return AgentConfig(
        otlp=read_otlp_config(environ),
        metrics=_read_metrics_or_none(environ),
        store_limits=read_store_limits(environ),
        container_labels=read_container_labels(environ),
        report_interval_s=read_report_interval_s(environ),
        claimed_identity=read_variable(environ, CLAIMED_IDENTITY, default="true").flag(),
    )


def _read_metrics_or_none(environ: Mapping[str, str]) -> MetricsConfig | None:
    try:
        return read_metrics_config(environ)
    except ConfigError as error:
        # Metrics variables are often set for all services of a host: kills come first.
        _LOG.warning("Agent metrics are off: %s", error)
        return None


def read_container_labels(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the keys of the labels to record, separated by commas; none by default."""
    keys = (key.strip() for key in environ.get(CONTAINER_LABELS, "").split(","))
    return frozenset(key for key in keys if key)


def read_notify_socket(environ: Mapping[str, str]) -> str:
    """Return the service manager's address; empty without one (sd_notify(3))."""
    address = environ.get("NOTIFY_SOCKET", "")
    # A leading @ stands for an abstract address.
    return f"\0{address[1:]}" if address.startswith("@") else address


def read_watchdog_interval_s(environ: Mapping[str, str], pid: int | None = None) -> float | None:
    """Return half of the watchdog's timeout in seconds (sd_watchdog_enabled(3)).

    ``None`` without ``WATCHDOG_USEC``, or if ``WATCHDOG_PID`` names another process.
    """
    watched_pid = environ.get("WATCHDOG_PID", "")
    if watched_pid and watched_pid != str(os.getpid() if pid is None else pid):
        return None
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec:
        return None
    if not (usec.isascii() and usec.isdigit() and int(usec)):
        _LOG.warning("Watchdog is off: WATCHDOG_USEC=%r is no number of microseconds", usec)
        return None
    return int(usec) / US_PER_S / 2
