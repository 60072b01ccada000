"""The victim: its service, pod, container, unit and process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from otel_oom.commands.elements import Element, Section, known_facts
from otel_oom.commands.history.labels import CONTAINER_ID_CHARS, claim_suffix, ordinal
from otel_oom.model.units import format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

_RESIDENT_PARTS: Final = {
    semconv.VICTIM_MEMORY_ANON: "anonymous",
    semconv.VICTIM_MEMORY_FILE: "of files",
    semconv.VICTIM_MEMORY_SHMEM: "shared",
}


def resident_bytes(event: DecodedEvent) -> int | None:
    """Return the resident memory of the victim, if any of it is known."""
    parts = [value for value in map(event.attributes.integer, _RESIDENT_PARTS) if value is not None]
    return sum(parts) if parts else None


def describe_victim(event: DecodedEvent) -> Section | None:
    """Return the section; ``None`` for an event without a victim."""
    if event.attributes.integer("process.pid") is None:
        return None
    return Section("victim", "Victim", tuple(_facts(event)))


def _facts(event: DecodedEvent) -> Iterator[Element]:
    attributes = event.attributes
    yield from known_facts("service", _service(event))
    yield from known_facts("pod", _pod(event))
    yield from known_facts("container", _container(event))
    yield from known_facts("unit", _unit(event))
    yield from known_facts("process", _process(event), "strong")
    yield from known_facts("repeat", _repeat(event), "warning")
    yield from known_facts("program", attributes.text("process.executable.path"))
    yield from known_facts("runtime", _runtime(event))
    yield from known_facts("command", _command(event))
    yield from known_facts("memory", _memory(event))
    yield from known_facts("cgroup", attributes.text(semconv.VICTIM_MEMCG_PATH))
    yield from known_facts("host", event.resource.text("host.name"))
    errors = "; ".join(attributes.texts(semconv.ENRICHMENT_ERROR))
    yield from known_facts("incomplete", errors, "warning")


def _repeat(event: DecodedEvent) -> str | None:
    count = event.attributes.integer(semconv.REPEAT_COUNT) or 1
    if count == 1:
        return None
    first_time = event.attributes.text(semconv.REPEAT_FIRST_TIME)
    return f"the {ordinal(count)} kill of this program since {first_time}"


def _service(event: DecodedEvent) -> str | None:
    resource = event.resource
    name, version = resource.text("service.name"), resource.text("service.version")
    if name is None:
        return None
    full_name = "/".join(filter(None, (resource.text("service.namespace"), name)))
    claimed = claim_suffix(event, "service.name", "service.namespace", "service.version")
    return full_name + (f", version {version}" if version else "") + claimed


def _pod(event: DecodedEvent) -> str | None:
    resource = event.resource
    uid, name = resource.text("k8s.pod.uid"), resource.text("k8s.pod.name")
    if uid is None and name is None:
        return None
    namespace, container = resource.text("k8s.namespace.name"), resource.text("k8s.container.name")
    restarts = resource.integer("k8s.container.restart_count")
    parts = [
        ("/".join(filter(None, (namespace, name))) or f"uid {uid}")
        + claim_suffix(event, "k8s.namespace.name", "k8s.pod.name"),
        f"container {container}" if container else None,
        event.attributes.text(semconv.VICTIM_POD_QOS_CLASS),
        f"restarted {restarts} times before" if restarts else None,
    ]
    return ", ".join(filter(None, parts))


def _container(event: DecodedEvent) -> str | None:
    resource = event.resource
    id_, name = resource.text("container.id"), resource.text("container.name")
    if id_ is None:
        return None
    image, tags = resource.text("container.image.name"), resource.text("container.image.tags")
    host = event.attributes.text(semconv.CONTAINER_HOST_NAME) or event.attributes.text(
        semconv.CONTAINER_HOST_ID
    )
    parts = [
        f"{name} ({id_[:CONTAINER_ID_CHARS]})" if name else id_[:CONTAINER_ID_CHARS],
        f"image {image}{f':{tags}' if tags else ''}" if image else None,
        resource.text("container.runtime.name"),
        f"inside container {host}" if host else None,
    ]
    return ", ".join(filter(None, parts))


def _unit(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    units = (
        semconv.VICTIM_SYSTEMD_USER_UNIT,
        semconv.VICTIM_SYSTEMD_UNIT,
        semconv.VICTIM_SYSTEMD_SLICE,
    )
    return " in ".join(filter(None, map(attributes.text, units))) or None


def _process(event: DecodedEvent) -> str:
    attributes = event.attributes
    pid, inside = attributes.integer("process.pid"), attributes.integer("process.vpid")
    adjusted = attributes.integer(semconv.VICTIM_SCORE_ADJ)
    user = attributes.integer("process.real_user.id")
    parent = attributes.integer("process.parent_pid")
    parts = [
        f"{attributes.text(semconv.VICTIM_COMM) or 'a process'}, pid {pid}",
        f"pid {inside} in its own namespace" if inside not in {None, pid} else None,
        f"child of pid {parent}" if parent else None,
        f"user {user}" if user is not None else None,
        f"oom_score_adj {adjusted}" if adjusted is not None else None,
    ]
    return ", ".join(filter(None, parts))


def _runtime(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    name, version = map(attributes.text, ("process.runtime.name", "process.runtime.version"))
    if name is None:
        return None
    settings = " ".join(attributes.texts(semconv.VICTIM_RUNTIME_SETTINGS))
    return (f"{name} {version}" if version else name) + (f", {settings}" if settings else "")


def _command(event: DecodedEvent) -> str | None:
    return " ".join(event.attributes.texts("process.command_args")) or None


def _memory(event: DecodedEvent) -> str | None:
    attributes, resident = event.attributes, resident_bytes(event)
    if resident is None:
        return None
    parts = [(attributes.integer(name), label) for name, label in _RESIDENT_PARTS.items()]
    breakdown = ", ".join(f"{format_bytes(part)} {label}" for part, label in parts if part)
    text = f"{format_bytes(resident)} resident" + (f" ({breakdown})" if breakdown else "")
    swap = attributes.integer(semconv.VICTIM_MEMORY_SWAP)
    tables = attributes.integer(semconv.VICTIM_MEMORY_PAGE_TABLES)
    text += f", {format_bytes(swap)} in swap" if swap else ""
    return text + (f", {format_bytes(tables)} of page tables" if tables else "")
