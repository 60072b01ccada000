"""The victim as a service, so that its kill joins its own telemetry.

Source: OpenTelemetry's semantic conventions, "Specify resource attributes using Kubernetes
annotations", whose order is followed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from otel_oom.enrich.claims import POD_NAMES, UNKNOWN_SERVICE, WORKLOAD_NAMES, Claims
from otel_oom.enrich.kubernetes import Pod, image_version
from otel_oom.linux.systemd.units import Units, display_name
from otel_oom.model.start_settings import CONTAINER, MARK, NOTE, PROCESS

_LABELS: Final = ("app.kubernetes.io/instance", "app.kubernetes.io/name")
"""Labels that name the service of a pod, before its owner, where the user selects them."""
_VERSION_LABEL: Final = "app.kubernetes.io/version"
_KUBERNETES_PREFIX: Final = "k8s."
_DERIVED_FROM: Final = {
    "service.namespace": {"k8s.namespace.name"},
    "service.instance.id": {*POD_NAMES},
}

_ENVIRON: Final = {
    MARK: "environ_mark",
    PROCESS: "environ",
    NOTE: "environ_note",
    CONTAINER: "environ_container",
}
"""Sources of claims, by where the environment was read."""
_KUBERNETES: Final = "kubernetes"


class ServiceHints(Struct, frozen=True):
    """The values that can name the victim's service.

    ``labels`` are those of pod and container that the user selects. ``units`` are those of the
    victim itself, not of its container.
    """

    claims: Claims = Claims()
    pod: Pod | None = None
    labels: Mapping[str, str] = {}
    units: Units = Units()
    container: str | None = None
    executable: str | None = None
    comm: str | None = None


class ServiceIdentity(Struct, frozen=True):
    """The attributes of the victim as a service, and who says them.

    ``source`` is that of ``service.name``: one of the values of ``oom.service.source``. ``claimed``
    are the names of those attributes that the victim claims, or that derive from a claim;
    ``dropped_count`` is the number of claims beyond the bound.
    """

    attributes: Mapping[str, str]
    source: str
    claimed: tuple[str, ...] = ()
    dropped_count: int = 0


def resolve_service(hints: ServiceHints) -> ServiceIdentity:
    """Return ``service.*`` of the victim, and the other attributes that it or its pod declares.

    The victim's claims come first, as in its own telemetry; then the annotations of its pod, and
    the labels that the user selects. Outside of Kubernetes follow the systemd unit, the name of the
    container, of the executable and of the thread. A claim never replaces a ``k8s.*`` attribute.
    """
    pod = hints.pod
    annotated = pod.annotated_attributes if pod else {}
    platform = {**annotated, **(pod.attributes() if pod else {})}
    claims = {
        name: value
        for name, value in hints.claims.attributes.items()
        if not name.startswith(_KUBERNETES_PREFIX) or (pod and name not in platform)
    }
    declared = {**annotated, **claims}
    known = {**platform, **claims}
    environ = _ENVIRON.get(hints.claims.source, "environ")
    name, source = _service_name(hints, known, claims, environ)
    derived = {
        "service.name": name,
        "service.namespace": known.get("k8s.namespace.name"),
        "service.instance.id": _instance_id(known) if pod else None,
        "service.version": _version(pod, hints.labels) if pod else None,
    }
    attributes = {**{key: str(value) for key, value in derived.items() if value}, **declared}
    claimed = {*claims} | ({"service.name"} if source == environ else set())
    claimed |= {
        name for name, parts in _DERIVED_FROM.items() if name not in declared and parts & {*claims}
    }
    return ServiceIdentity(
        attributes, source, tuple(sorted(claimed & {*attributes})), hints.claims.dropped_count
    )


def _service_name(
    hints: ServiceHints, known: Mapping[str, str | int], claims: Mapping[str, str], environ: str
) -> tuple[str, str]:
    """Return the name of the service, and its source."""
    executable = (hints.executable or "").rpartition("/")[2]
    if hints.pod:
        names = ("service.name", *_LABELS, *WORKLOAD_NAMES, *POD_NAMES[1:])
        values = {**known, **{label: hints.labels.get(label, "") for label in _LABELS}}
        # A backend that knows the name of the pod can recognise this one as a default.
        default = f"{UNKNOWN_SERVICE}:{executable}" if executable else ""
        candidates = [
            *((values.get(name), environ if name in claims else _KUBERNETES) for name in names),
            (default, "executable"),
        ]
    else:
        unit = hints.units.user_unit or hints.units.unit or ""
        is_service = unit.endswith(".service") and not unit.startswith("user@")
        candidates = [
            (claims.get("service.name"), environ),
            (display_name(unit) if is_service else "", _unit_source(hints)),
            (hints.container, "container"),
            (executable, "executable"),
            (hints.comm, "comm"),
        ]
    named = ((str(value), source) for value, source in candidates if value)
    return next(named, (UNKNOWN_SERVICE, "none"))


def _unit_source(hints: ServiceHints) -> str:
    return "systemd_user" if hints.units.user_unit else "systemd"


def _version(pod: Pod, labels: Mapping[str, str]) -> str | None:
    return labels.get(_VERSION_LABEL) or (image_version(pod.image) if pod.image else None)


def _instance_id(known: Mapping[str, str | int]) -> str | None:
    parts = [str(known[name]) for name in POD_NAMES if known.get(name)]
    return ".".join(parts) if len(parts) == len(POD_NAMES) else None
