"""The victim as a service, so that its death stands beside its own telemetry.

Sources: OpenTelemetry's specification, "Specifying resource information via an environment
variable", and its semantic conventions, "Specify resource attributes using Kubernetes annotations",
whose order is followed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from otel_oom.enrich.kubernetes import Pod, image_version
from otel_oom.linux.systemd.units import Units, display_name

UNKNOWN: Final = "unknown_service"
"""The name that OpenTelemetry prescribes where there is none."""

_SERVICE: Final = ("service.name", "service.namespace", "service.instance.id", "service.version")
_ENVIRONMENT: Final = ("deployment.environment.name", "deployment.environment")
_WORKLOADS: Final = tuple(
    f"k8s.{kind}.name"
    for kind in ("deployment", "replicaset", "statefulset", "daemonset", "cronjob", "job")
)
"""What may own a pod, in the order in which it names the service."""
_LABELS: Final = ("app.kubernetes.io/instance", "app.kubernetes.io/name")
"""What may name a pod's service before its workload does, for a user who asks for these labels."""
_VERSION_LABEL: Final = "app.kubernetes.io/version"
_POD: Final = ("k8s.pod.name", "k8s.namespace.name", "k8s.container.name")

_VALUE_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class ServiceHints:
    """What is known of the victim that can name it.

    ``environ`` are the variables that :mod:`~otel_oom.snapshot.environ` keeps. ``labels`` are those
    of its pod and container that the user asks for. ``units`` are those of the victim itself, not
    of the container that it is in.
    """

    environ: Mapping[str, str] = field(default_factory=dict)
    pod: Pod | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    units: Units = field(default_factory=Units)
    container: str | None = None
    executable: str | None = None
    comm: str | None = None


def resolve_service(facts: ServiceHints) -> dict[str, str]:
    """``service.*`` of the victim, and what else it or its pod's author says of itself.

    What the process says in its own environment goes first, as it does for its own telemetry;
    then its pod's annotations, and its labels where they are asked for. Outside of Kubernetes the
    systemd unit, the container's name, the executable's and the kernel's name for the thread
    follow.
    """
    claimed = _claimed(facts)
    known = {**claimed, **(facts.pod.attributes() if facts.pod else {})}
    found = {
        "service.name": _name(facts, known),
        "service.namespace": known.get("k8s.namespace.name"),
        "service.instance.id": _instance(known) if facts.pod else None,
        "service.version": _version(facts.pod, facts.labels) if facts.pod else None,
    }
    named = {name: str(value) for name, value in found.items() if value}
    return {**named, **claimed}


def _claimed(facts: ServiceHints) -> dict[str, str]:
    """What the pod's author and the process itself say; of the process no more than is listed."""
    allowed = {*_SERVICE, *_ENVIRONMENT}
    if facts.pod:
        allowed.update(_WORKLOADS, _POD)
    own = resource_attributes(facts.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    name = facts.environ.get("OTEL_SERVICE_NAME", "").strip()
    if name:
        own["service.name"] = _plain(name)
    # An SDK's word for "no name", should someone have set it.
    if own.get("service.name", "").startswith(UNKNOWN):
        del own["service.name"]
    allowed_own = {key: value for key, value in own.items() if key in allowed and value}
    return {**(facts.pod.own if facts.pod else {}), **allowed_own}


def resource_attributes(text: str) -> dict[str, str]:
    """``OTEL_RESOURCE_ATTRIBUTES``: ``key=value`` pairs by commas, percent-encoded.

    What is no pair is left out, as the SDKs leave it out.
    """
    pairs = (item.partition("=") for item in text.split(","))
    decoded = {unquote(key.strip()): unquote(value.strip()) for key, sign, value in pairs if sign}
    return {key: _plain(value) for key, value in decoded.items() if key}


def _plain(value: str) -> str:
    return "".join(char for char in value[:_VALUE_CHARS] if char.isprintable())


def _name(facts: ServiceHints, known: Mapping[str, str | int]) -> str:
    executable = (facts.executable or "").rpartition("/")[2]
    if facts.pod:
        names = (*_LABELS, *_WORKLOADS, "k8s.pod.name", "k8s.container.name")
        told = {**known, **facts.labels}
        name = next((str(told[key]) for key in names if told.get(key)), "")
        # Nothing names the pod: what does know it can tell by this that the name is none.
        return name or (f"{UNKNOWN}:{executable}" if executable else UNKNOWN)
    unit = facts.units.user_unit or facts.units.unit or ""
    if unit.endswith(".service") and not unit.startswith("user@"):
        return display_name(unit)
    return facts.container or executable or facts.comm or UNKNOWN


def _version(pod: Pod, labels: Mapping[str, str]) -> str | None:
    return labels.get(_VERSION_LABEL) or (image_version(pod.image) if pod.image else None)


def _instance(known: Mapping[str, str | int]) -> str | None:
    """Namespace, pod and container with dots between them, where all three are known."""
    names = ("k8s.namespace.name", "k8s.pod.name", "k8s.container.name")
    parts = [str(known[name]) for name in names if known.get(name)]
    return ".".join(parts) if len(parts) == len(names) else None
