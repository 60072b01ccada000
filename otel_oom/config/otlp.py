"""The ``OTEL_*`` variables of the export of kills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_oom.config.endpoint import Endpoint, read_endpoint
from otel_oom.config.variable import read_variable

SIGNALS: Final = ("logs", "traces")


@dataclass(frozen=True, slots=True)
class OtlpConfig:
    """Endpoints of all signals, attributes of the host, and the main switch.

    ``detectors`` are the names of the resource detectors that describe the host.
    """

    endpoints: tuple[Endpoint, ...]
    resource: Mapping[str, str]
    disabled: bool
    detectors: tuple[str, ...] = ()


def read_otlp_config(environ: Mapping[str, str]) -> OtlpConfig:
    """Return the settings in ``environ``. Raises ConfigError."""
    # The manifest of a pod passes the name of its node.
    node = read_variable(environ, "K8S_NODE_NAME").text
    resource = dict(read_variable(environ, "OTEL_RESOURCE_ATTRIBUTES").pairs())
    detectors = read_variable(environ, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS").text.split(",")
    return OtlpConfig(
        endpoints=tuple(read_endpoint(environ, signal) for signal in SIGNALS),
        resource={**({"k8s.node.name": node} if node else {}), **resource},
        disabled=read_variable(environ, "OTEL_SDK_DISABLED").flag(),
        # `otel` is the SDK's own detector, for OTEL_RESOURCE_ATTRIBUTES.
        detectors=tuple(n.strip() for n in detectors if n.strip() not in {"", "otel"}),
    )
