"""All ``OTEL_*`` variables of the agent as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_oom.config.metrics import MetricSettings
from otel_oom.config.otlp import Endpoint, Variable, endpoint, parse_flag, parse_pairs

SIGNALS: Final = ("logs", "traces")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says: endpoints by signal, the place's resource, the main switch.

    ``metrics`` are the agent's own; there are none unless somebody has read what is said of them.
    ``detectors`` are the names of the resource detectors that are asked about the host.
    """

    endpoints: tuple[Endpoint, ...]
    resource: Mapping[str, str]
    disabled: bool
    metrics: MetricSettings | None = None
    detectors: tuple[str, ...] = ()


def read(environ: Mapping[str, str]) -> Settings:
    """The settings that ``environ`` holds.

    Raises:
        SettingsError: a value can't be used.
    """
    resource = Variable("OTEL_RESOURCE_ATTRIBUTES", environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    disabled = Variable("OTEL_SDK_DISABLED", environ.get("OTEL_SDK_DISABLED", ""))
    # As the manifest of a pod hands the name of its node to it.
    node = environ.get("K8S_NODE_NAME", "").strip()
    return Settings(
        endpoints=tuple(endpoint(environ, signal) for signal in SIGNALS),
        resource={**({"k8s.node.name": node} if node else {}), **dict(parse_pairs(resource))},
        disabled=parse_flag(disabled),
        detectors=_detectors(environ.get("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "")),
    )


def _detectors(text: str) -> tuple[str, ...]:
    """The names of a list by commas, less the SDK's own for ``OTEL_RESOURCE_ATTRIBUTES``."""
    names = (name.strip() for name in text.split(","))
    return tuple(name for name in names if name and name != "otel")
