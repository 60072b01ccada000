"""All settings of ``otel-oom run`` that come from the environment."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_oom.config.containers import read_container_labels
from otel_oom.config.metrics import MetricsConfig, read_metrics_config
from otel_oom.config.otlp import OtlpConfig, read_otlp_config
from otel_oom.config.store import StoreLimits, read_store_limits
from otel_oom.config.variable import ConfigError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Settings of the agent; ``metrics`` is ``None`` if it sends none of its own."""

    otlp: OtlpConfig
    metrics: MetricsConfig | None = None
    store_limits: StoreLimits = field(default_factory=StoreLimits)
    container_labels: frozenset[str] = frozenset()


def read_agent_config(environ: Mapping[str, str]) -> AgentConfig:
    """Return the settings in ``environ``. Raises ConfigError."""
    return AgentConfig(
        otlp=read_otlp_config(environ),
        metrics=_read_metrics_or_none(environ),
        store_limits=read_store_limits(environ),
        container_labels=read_container_labels(environ),
    )


def _read_metrics_or_none(environ: Mapping[str, str]) -> MetricsConfig | None:
    try:
        return read_metrics_config(environ)
    except ConfigError as error:
        # Metrics variables are often set for all services of a host: kills come first.
        _LOG.warning("Agent metrics are off: %s", error)
        return None
