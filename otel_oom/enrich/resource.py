"""The resource of an event: its victim, as service, pod and container of its host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace
from opentelemetry.util.types import AttributeValue

from otel_oom.enrich.kubernetes import Pod, find_pod
from otel_oom.enrich.service_identity import ServiceHints, ServiceIdentity, resolve_service
from otel_oom.enrich.types import Attributes
from otel_oom.linux.process import parse_cgroups
from otel_oom.linux.systemd.units import Units, find_units
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import Container, EventContainers, Snapshot

_VICTIM_PREFIXES: Final = ("service.", "deployment.")
"""Attributes in which the victim's own value overrides the host's."""

_SYSTEMD_CONTROLLERS: Final = ((), ("name=systemd",))
"""The controllers of cgroup v2 and of systemd's own v1 hierarchy."""

_IMAGE: Final = re.compile(r"(?P<name>.+?)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>\w+:[0-9a-f]+))?")
"""An image reference. A slash follows the port of a registry, but not a tag."""

_BARE_ID: Final = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


def finest_cgroup_path(kill: OomKill | UserspaceKill, snapshot: Snapshot) -> str:
    """Return the victim's deepest known cgroup; empty if none is known.

    The memory cgroup is an ancestor where the memory controller is not enabled all the way down.
    Another hierarchy counts only if it continues that path: inside a cgroup namespace
    (cgroup_namespaces(7)), ``/proc/PID/cgroup`` can also be cut at the top.
    """
    memory = kill.memcg.path if kill.memcg else ""
    if kill.memcg and kill.memcg.path_cut:
        return memory
    prefix = f"{memory.rstrip('/')}/"
    for entry in parse_cgroups(snapshot.cgroup or ""):
        path, controllers = entry.path, entry.controllers
        if controllers in _SYSTEMD_CONTROLLERS and path.startswith(prefix) and "/.." not in path:
            return path if path != "/" else memory
    return memory


def victim_resource(
    cgroup_path: str, containers: EventContainers, hints: ServiceHints, host: Attributes
) -> tuple[dict[str, AttributeValue], ServiceIdentity]:
    """Merge the attributes of the host, the service, the pod and the container; later ones win.

    Returns the resource, and the service with those claims of the victim that are in it.
    """
    container = containers.victim
    pod, labels = _find_pod(cgroup_path, containers)
    units = find_units(_path_inside(cgroup_path, container.id) if container else cgroup_path)
    if container:
        # Those of the systemd that runs in it: its owner names them, as a user its own.
        units = Units(user_unit=units.user_unit or units.unit)
    name = container.name if container else None
    service = resolve_service(replace(hints, pod=pod, labels=labels, units=units, container=name))
    own = {
        key: value
        for key, value in service.attributes.items()
        if key.startswith(_VICTIM_PREFIXES) or key not in host
    }
    platform = {**(pod.attributes() if pod else {}), **container_attributes(container)}
    claimed = tuple(name for name in service.claimed if name in own)
    return {**host, **own, **platform}, replace(service, claimed=claimed)


def _find_pod(
    cgroup_path: str, containers: EventContainers
) -> tuple[Pod | None, Mapping[str, str]]:
    """Return the pod by the outermost container, or else by a kubelet in it, and its labels.

    A container in a pod can claim others for the containers in it.
    """
    outer, inner = containers.host or containers.victim, containers.victim
    pod = find_pod(cgroup_path, outer.annotations if outer else {})
    if pod or outer is None or inner is None or outer is inner:
        return pod, outer.labels if outer else {}
    return find_pod(f"/{_path_inside(cgroup_path, outer.id)}", inner.annotations), inner.labels


def _path_inside(cgroup_path: str, container_id: str) -> str:
    """Return the path below the container's own cgroup, and below the one that podman adds."""
    _, own, rest = cgroup_path.partition(container_id)
    return rest.partition("/")[2].removeprefix("container/") if own else ""


def container_attributes(container: Container | None) -> dict[str, str | tuple[str, ...]]:
    """Return the resource attributes of ``container``; unknown ones are omitted."""
    if container is None:
        return {}
    name, tag, digest = _parse_image(container.image)
    values = {
        "container.id": container.id,
        "container.name": container.name,
        "container.runtime.name": container.runtime,
        "container.runtime.version": container.runtime_version,
        "container.image.name": name,
        "container.image.tags": (tag,) if tag else None,
        "container.image.id": container.image_id,
        "container.image.repo_digests": (f"{name}@{digest}",) if digest else None,
        **{f"container.label.{key}": value for key, value in container.labels.items()},
    }
    return {name: value for name, value in values.items() if value}


def _parse_image(image: str | None) -> tuple[str | None, str | None, str | None]:
    """Return name, tag and digest of an image reference; a bare image id has none of them."""
    match = _IMAGE.fullmatch(image or "")
    if match is None or _BARE_ID.fullmatch(image or ""):
        return None, None, None
    return match["name"], match["tag"], match["digest"]
