"""The resource of an event: its victim, as service, pod and container of its host."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace
from opentelemetry.util.types import AttributeValue

from otel_oom.enrich.container_attributes import container_attributes
from otel_oom.enrich.kubernetes import find_pod
from otel_oom.enrich.service_identity import ServiceHints, resolve_service
from otel_oom.enrich.types import Attributes
from otel_oom.linux.systemd.units import find_units
from otel_oom.model.snapshot import Container

_VICTIM_PREFIXES: Final = ("service.", "deployment.")
"""Attributes in which the victim's own value overrides the host's."""


def victim_resource(
    cgroup_path: str, container: Container | None, hints: ServiceHints, host: Attributes
) -> dict[str, AttributeValue]:
    """Merge the attributes of the host, the service, the pod and the container; later ones win."""
    pod = find_pod(cgroup_path, container.annotations if container else {})
    # Inside a container, the units are those of the systemd that runs in it.
    units = find_units(_path_inside(cgroup_path, container.id) if container else cgroup_path)
    name = container.name if container else None
    labels = container.labels if container else {}
    service = resolve_service(replace(hints, pod=pod, labels=labels, units=units, container=name))
    return {
        **host,
        **{k: v for k, v in service.items() if k.startswith(_VICTIM_PREFIXES) or k not in host},
        **(pod.attributes() if pod else {}),
        **container_attributes(container),
    }


def _path_inside(cgroup_path: str, container_id: str) -> str:
    """Return the path below the container's own cgroup, and below the one that podman adds."""
    _, own, rest = cgroup_path.rpartition(container_id)
    return rest.partition("/")[2].removeprefix("container/") if own else ""
