"""The environment variables that a program with the library has: all but those of the export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_oom.config.agent import CLAIMED_IDENTITY, read_container_labels
from otel_oom.config.filters import NO_FILTERS, FilterConfig, read_filters
from otel_oom.config.metrics import DEFAULT_OWNER_NAMES, read_owner_names
from otel_oom.config.otlp import read_detectors, read_resource
from otel_oom.config.store import StoreLimits, read_report_interval_s, read_store_limits
from otel_oom.config.usage import UsageConfig, read_usage_config
from otel_oom.config.variable import read_variable


@dataclass(frozen=True, slots=True)
class LibraryConfig:
    """Settings of the library; each is as in :class:`.AgentConfig` and :class:`.OtlpConfig`."""

    resource: Mapping[str, str] = field(default_factory=dict)
    detectors: tuple[str, ...] = ()
    store_limits: StoreLimits = field(default_factory=StoreLimits)
    container_labels: frozenset[str] = frozenset()
    claimed_identity: bool = True
    report_interval_s: int = 0
    filters: FilterConfig = NO_FILTERS
    owner_names: tuple[str, ...] = DEFAULT_OWNER_NAMES
    usage: UsageConfig = field(default_factory=UsageConfig)


def read_library_config(environ: Mapping[str, str]) -> LibraryConfig:
    """Return the settings in ``environ``; log those that are ignored. Raises ConfigError."""
    return LibraryConfig(
        resource=read_resource(environ),
        detectors=read_detectors(environ),
        store_limits=read_store_limits(environ),
        container_labels=read_container_labels(environ),
        claimed_identity=read_variable(environ, CLAIMED_IDENTITY, default="true").flag(),
        report_interval_s=read_report_interval_s(environ),
        filters=read_filters(environ),
        owner_names=read_owner_names(environ),
        usage=read_usage_config(environ),
    )
