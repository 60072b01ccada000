"""All settings of ``otel-oom run`` that come from the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from otel_oom.config.file import apply_config_file
from otel_oom.config.filters import (
    DROP_ATTRIBUTES,
    EXCLUDE,
    INCLUDE,
    NO_FILTERS,
    PROCESSORS,
    FilterConfig,
    read_filters,
)
from otel_oom.config.metrics import (
    DEFAULT_OWNER_NAMES,
    OWNER_NAMES,
    MetricsConfig,
    read_metrics_config,
    read_owner_names,
)
from otel_oom.config.otlp import OtlpConfig, read_otlp_config
from otel_oom.config.pod_events import KUBERNETES_EVENTS, read_pod_events
from otel_oom.config.standard_variables import unread_variables
from otel_oom.config.store import (
    MAX_AGE,
    MAX_BYTES,
    MAX_SERIES,
    REPORT_INTERVAL,
    StoreLimits,
    read_report_interval_s,
    read_store_limits,
)
from otel_oom.config.usage import NEAR_LIMIT, USAGE_INTERVAL, UsageConfig, read_usage_config
from otel_oom.config.variable import Warn, read_log_level, read_variable
from otel_oom.model.units import US_PER_S

CONTAINER_LABELS: Final = "OTEL_OOM_CONTAINER_LABELS"
CLAIMED_IDENTITY: Final = "OTEL_OOM_CLAIMED_IDENTITY"

OWN_VARIABLES: Final = frozenset(
    {
        *(EXCLUDE, INCLUDE, DROP_ATTRIBUTES, PROCESSORS),
        *(MAX_BYTES, MAX_AGE, REPORT_INTERVAL),
        *(OWNER_NAMES, MAX_SERIES),
        *(USAGE_INTERVAL, NEAR_LIMIT),
        *(CONTAINER_LABELS, CLAIMED_IDENTITY, KUBERNETES_EVENTS),
    }
)
"""All variables that only otel-oom has."""

_LOG = logging.getLogger(__name__)


class AgentConfig(Struct, frozen=True):
    """Settings of the agent; ``metrics`` is ``None`` if it sends none of its own.

    Kills are counted by the attributes ``owner_names``.

    Within ``report_interval_s`` a container's kills share one kernel report; 0: each has its own.
    ``claimed_identity`` is whether a victim's own environment may name its service.
    """

    otlp: OtlpConfig
    metrics: MetricsConfig | None = None
    owner_names: tuple[str, ...] = DEFAULT_OWNER_NAMES
    store_limits: StoreLimits = field(default_factory=StoreLimits)
    container_labels: frozenset[str] = frozenset()
    claimed_identity: bool = True
    report_interval_s: int = 0
    filters: FilterConfig = NO_FILTERS
    usage: UsageConfig = UsageConfig()
    log_level: int = logging.INFO


def read_agent_config(environ: Mapping[str, str]) -> AgentConfig:
    """Return the settings in ``environ``; log those that are ignored. Raises ConfigError."""
    warnings: list[str] = []
    unread = unread_variables(environ, OWN_VARIABLES)
    environ = apply_config_file(environ, warnings.append)
    config = AgentConfig(
        otlp=read_export_config(environ, warnings.append),
        metrics=read_metrics_config(environ, warnings.append),
        owner_names=read_owner_names(environ),
        store_limits=read_store_limits(environ),
        container_labels=read_container_labels(environ),
        report_interval_s=read_report_interval_s(environ),
        filters=read_filters(environ),
        usage=read_usage_config(environ),
        claimed_identity=read_variable(environ, CLAIMED_IDENTITY, default="true").flag(),
        log_level=read_log_level(environ, warnings.append),
    )
    if unread:
        warnings.append(f"Not read: {', '.join(unread)}. docs/configuration.md says why.")
    # Signals share variables.
    for warning in dict.fromkeys(warnings):
        _LOG.warning("%s", warning)
    return config


def read_export_config(environ: Mapping[str, str], warn: Warn) -> OtlpConfig:
    """Return the settings of the export, as :func:`.read_otlp_config`, and pod events.

    The agent alone has them: a replayed kill is no news for its pod.
    """
    otlp, pod_events = read_otlp_config(environ, warn), read_pod_events(environ)
    return replace(otlp, exporters=(*otlp.exporters, pod_events)) if pod_events else otlp


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
