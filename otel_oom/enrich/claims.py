"""Resource attributes that a victim claims for itself, by its own environment.

Its owner can write anything there. So each claim is bounded, marked as a claim, and never replaces
what the platform knows (:mod:`~otel_oom.enrich.service_identity`). Source: OpenTelemetry's
specification, "Specifying resource information via an environment variable".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

from msgspec import Struct

from otel_oom.enrich.kubernetes import WORKLOADS
from otel_oom.linux.cgroup_holder import find_holder
from otel_oom.model.start_settings import PROCESS

UNKNOWN_SERVICE: Final = "unknown_service"
"""The name that OpenTelemetry prescribes for a service without one."""

POD_NAMES: Final = ("k8s.namespace.name", "k8s.pod.name", "k8s.container.name")
WORKLOAD_NAMES: Final = tuple(f"k8s.{kind}.name" for kind in WORKLOADS)
_CLAIMABLE: Final = {
    *("service.name", "service.namespace", "service.instance.id", "service.version"),
    *("deployment.environment.name", "deployment.environment"),
    *POD_NAMES,
    *WORKLOAD_NAMES,
}
_MAX_VALUE_CHARS: Final = 256

MAX_VALUES_PER_DAY: Final = 64
"""Values that one claimant may claim, of all attributes together: backends index some of them."""
MAX_CLAIMANTS: Final = 256
"""Claimants in memory, 6 KB each; for another one, that with the oldest claim is dropped."""
_DAY_S: Final = 86400.0


class Claims(Struct, frozen=True):
    """The claims of one victim, where they were read, and the number of those beyond the bound.

    ``source`` is one of :class:`.StartSettings`.
    """

    attributes: Mapping[str, str] = {}
    dropped_count: int = 0
    source: str = PROCESS


class ClaimBudget:
    """The bound on distinct claims of a claimant a day. Not thread-safe."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Count days by ``clock_s``, each from the first claim of its claimant."""
        self._clock_s = clock_s
        self._claimants: dict[str, tuple[float, set[int]]] = {}
        """Start of the day and hashes of the claimed pairs, the latest claimant last."""

    def admit(self, cgroup_path: str, environ: Mapping[str, str], source: str = PROCESS) -> Claims:
        """Return the claims in ``environ``, without new values beyond the bound."""
        attributes = parse_claims(environ)
        if not attributes:
            return Claims()
        claimant, now_s = find_holder(cgroup_path), self._clock_s()
        since_s, pairs = self._claimants.pop(claimant, (now_s, set[int]()))
        if now_s - since_s >= _DAY_S:
            since_s, pairs = now_s, set()
        self._claimants[claimant] = since_s, pairs
        if len(self._claimants) > MAX_CLAIMANTS:
            del self._claimants[next(iter(self._claimants))]
        admitted = {}
        for pair in attributes.items():
            if len(pairs) < MAX_VALUES_PER_DAY:
                pairs.add(hash(pair))
            if hash(pair) in pairs:
                admitted[pair[0]] = pair[1]
        return Claims(admitted, len(attributes) - len(admitted), source)


def parse_claims(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes in ``environ`` that a victim can claim, each non-empty and bounded."""
    attributes = parse_resource_attributes(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    name = environ.get("OTEL_SERVICE_NAME", "").strip()
    if name:
        attributes["service.name"] = _printable(name)
    # An SDK's default name, should someone have set it.
    if attributes.get("service.name", "").startswith(UNKNOWN_SERVICE):
        del attributes["service.name"]
    return {key: value for key, value in attributes.items() if key in _CLAIMABLE and value}


def parse_resource_attributes(text: str) -> dict[str, str]:
    """Parse ``OTEL_RESOURCE_ATTRIBUTES``: percent-encoded ``key=value`` pairs between commas.

    Other items are ignored, as by the SDKs.
    """
    pairs = (item.partition("=") for item in text.split(","))
    decoded = {unquote(key.strip()): unquote(value.strip()) for key, sign, value in pairs if sign}
    return {key: _printable(value) for key, value in decoded.items() if key}


def _printable(value: str) -> str:
    return "".join(char for char in value[:_MAX_VALUE_CHARS] if char.isprintable())
