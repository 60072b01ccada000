"""The victim as a service, so that its kill joins its own telemetry.

Sources: OpenTelemetry's specification, "Specifying resource information via an environment
variable", and its semantic conventions, "Specify resource attributes using Kubernetes annotations",
whose order is followed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from msgspec import Struct

from otel_oom.enrich.kubernetes import WORKLOADS, Pod, image_version
from otel_oom.linux.systemd.units import Units, display_name

UNKNOWN_SERVICE: Final = "unknown_service"
"""The name that OpenTelemetry prescribes for a service without one."""

_SERVICE: Final = ("service.name", "service.namespace", "service.instance.id", "service.version")
_ENVIRONMENT: Final = ("deployment.environment.name", "deployment.environment")
_WORKLOADS: Final = tuple(f"k8s.{kind}.name" for kind in WORKLOADS)
_LABELS: Final = ("app.kubernetes.io/instance", "app.kubernetes.io/name")
"""Labels that name the service of a pod, before its owner, where the user selects them."""
_VERSION_LABEL: Final = "app.kubernetes.io/version"
_POD: Final = ("k8s.namespace.name", "k8s.pod.name", "k8s.container.name")

_MAX_VALUE_CHARS: Final = 256


class ServiceHints(Struct, frozen=True):
    """The values that can name the victim's service.

    ``environ`` has the variables that :mod:`~otel_oom.snapshot.environ` keeps, ``labels`` those of
    pod and container that the user selects. ``units`` are those of the victim itself, not of its
    container.
    """

    environ: Mapping[str, str] = {}
    pod: Pod | None = None
    labels: Mapping[str, str] = {}
    units: Units = Units()
    container: str | None = None
    executable: str | None = None
    comm: str | None = None


def resolve_service(hints: ServiceHints) -> dict[str, str]:
    """Return ``service.*`` of the victim, and the other attributes that it or its pod declares.

    The process's own environment comes first, as in its own telemetry; then the annotations of its
    pod, and the labels that the user selects. Outside of Kubernetes follow the systemd unit, the
    name of the container, of the executable and of the thread.
    """
    declared = _declared_attributes(hints)
    known = {**declared, **(hints.pod.attributes() if hints.pod else {})}
    derived = {
        "service.name": _service_name(hints, known),
        "service.namespace": known.get("k8s.namespace.name"),
        "service.instance.id": _instance_id(known) if hints.pod else None,
        "service.version": _version(hints.pod, hints.labels) if hints.pod else None,
    }
    return {**{name: str(value) for name, value in derived.items() if value}, **declared}


def _declared_attributes(hints: ServiceHints) -> dict[str, str]:
    """Return the attributes of the pod's annotations and, within a list, of the environment."""
    allowed = {*_SERVICE, *_ENVIRONMENT}
    if hints.pod:
        allowed.update(_WORKLOADS, _POD)
    attributes = parse_resource_attributes(hints.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    name = hints.environ.get("OTEL_SERVICE_NAME", "").strip()
    if name:
        attributes["service.name"] = _printable(name)
    # An SDK's default name, should someone have set it.
    if attributes.get("service.name", "").startswith(UNKNOWN_SERVICE):
        del attributes["service.name"]
    of_process = {key: value for key, value in attributes.items() if key in allowed and value}
    return {**(hints.pod.annotated_attributes if hints.pod else {}), **of_process}


def parse_resource_attributes(text: str) -> dict[str, str]:
    """Parse ``OTEL_RESOURCE_ATTRIBUTES``: percent-encoded ``key=value`` pairs between commas.

    Other items are ignored, as by the SDKs.
    """
    pairs = (item.partition("=") for item in text.split(","))
    decoded = {unquote(key.strip()): unquote(value.strip()) for key, sign, value in pairs if sign}
    return {key: _printable(value) for key, value in decoded.items() if key}


def _printable(value: str) -> str:
    return "".join(char for char in value[:_MAX_VALUE_CHARS] if char.isprintable())


def _service_name(hints: ServiceHints, known: Mapping[str, str | int]) -> str:
    executable = (hints.executable or "").rpartition("/")[2]
    if hints.pod:
        names = (*_LABELS, *_WORKLOADS, "k8s.pod.name", "k8s.container.name")
        values = {**known, **hints.labels}
        name = next((str(values[key]) for key in names if values.get(key)), "")
        # A backend that knows the name of the pod can recognise this one as a default.
        return name or (f"{UNKNOWN_SERVICE}:{executable}" if executable else UNKNOWN_SERVICE)
    unit = hints.units.user_unit or hints.units.unit or ""
    if unit.endswith(".service") and not unit.startswith("user@"):
        return display_name(unit)
    return hints.container or executable or hints.comm or UNKNOWN_SERVICE


def _version(pod: Pod, labels: Mapping[str, str]) -> str | None:
    return labels.get(_VERSION_LABEL) or (image_version(pod.image) if pod.image else None)


def _instance_id(known: Mapping[str, str | int]) -> str | None:
    parts = [str(known[name]) for name in _POD if known.get(name)]
    return ".".join(parts) if len(parts) == len(_POD) else None
