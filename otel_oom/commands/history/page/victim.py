"""What was killed: the service, the container, the pod, the unit, the process itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from otel_oom.commands.console.page import Page
from otel_oom.model.units import format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

_ID_CHARS: Final = 12


def lines(record: DecodedEvent, layout: Page) -> Iterator[str]:
    """The section; empty for what had no victim."""
    values, resource = record.attributes, record.resource
    if values.integer("process.pid") is None:
        return
    yield from layout.heading("What was killed")
    yield from layout.row("service", _service(record))
    yield from layout.row("pod", _pod(record))
    yield from layout.row("container", _container(record))
    yield from layout.row("unit", _unit(record))
    yield from layout.row("process", _process(record), "bold")
    yield from layout.row("program", values.text("process.executable.path"))
    yield from layout.row("command", _command(record))
    yield from layout.row("memory", _memory(record))
    yield from layout.row("cgroup", values.text(semconv.MEMCG_PATH))
    yield from layout.row("host", resource.text("host.name"))
    yield from layout.row("not found out", values.text(semconv.ENRICHMENT_ERROR), "yellow")


def _service(record: DecodedEvent) -> str | None:
    resource = record.resource
    name, namespace = resource.text("service.name"), resource.text("service.namespace")
    version = resource.text("service.version")
    if name is None:
        return None
    return (
        f"{f'{namespace}/' if namespace else ''}{name}{f', version {version}' if version else ''}"
    )


def _pod(record: DecodedEvent) -> str | None:
    resource = record.resource
    uid, name = resource.text("k8s.pod.uid"), resource.text("k8s.pod.name")
    if uid is None and name is None:
        return None
    namespace, container = resource.text("k8s.namespace.name"), resource.text("k8s.container.name")
    restarts = resource.integer("k8s.container.restart_count")
    parts = [
        "/".join(filter(None, (namespace, name))) or f"uid {uid}",
        f"container {container}" if container else None,
        record.attributes.text(semconv.VICTIM_QOS_CLASS),
        f"restarted {restarts} times before" if restarts else None,
    ]
    return ", ".join(filter(None, parts))


def _container(record: DecodedEvent) -> str | None:
    resource = record.resource
    id_, name = resource.text("container.id"), resource.text("container.name")
    if id_ is None:
        return None
    image, tags = resource.text("container.image.name"), resource.text("container.image.tags")
    outer = record.attributes.text(semconv.HOST_CONTAINER_NAME) or record.attributes.text(
        semconv.HOST_CONTAINER_ID
    )
    parts = [
        f"{name} ({id_[:_ID_CHARS]})" if name else id_[:_ID_CHARS],
        f"image {image}{f':{tags}' if tags else ''}" if image else None,
        resource.text("container.runtime.name"),
        f"inside of container {outer}" if outer else None,
    ]
    return ", ".join(filter(None, parts))


def _unit(record: DecodedEvent) -> str | None:
    values = record.attributes
    units = (semconv.VICTIM_USER_UNIT, semconv.VICTIM_UNIT, semconv.VICTIM_SLICE)
    return " in ".join(filter(None, map(values.text, units))) or None


def _process(record: DecodedEvent) -> str:
    values = record.attributes
    pid, inside = values.integer("process.pid"), values.integer("process.vpid")
    adjusted = values.integer(semconv.VICTIM_SCORE_ADJ)
    user, parent = values.integer("process.real_user.id"), values.integer("process.parent_pid")
    parts = [
        f"{values.text(semconv.VICTIM_COMM) or 'a process'}, pid {pid}",
        f"pid {inside} where it ran" if inside not in {None, pid} else None,
        f"child of pid {parent}" if parent else None,
        f"user {user}" if user is not None else None,
        f"oom_score_adj {adjusted}" if adjusted is not None else None,
    ]
    return ", ".join(filter(None, parts))


def _command(record: DecodedEvent) -> str | None:
    words = record.attributes.values.get("process.command_args")
    return " ".join(words) if isinstance(words, tuple) else None


def _memory(record: DecodedEvent) -> str | None:
    values = record.attributes
    parts = {
        "anonymous": values.integer(semconv.MEMORY_ANON),
        "of files": values.integer(semconv.MEMORY_FILE),
        "shared": values.integer(semconv.MEMORY_SHMEM),
    }
    known = {name: held for name, held in parts.items() if held is not None}
    if not known:
        return None
    made_of = ", ".join(f"{format_bytes(held)} {name}" for name, held in known.items() if held)
    told = f"{format_bytes(sum(known.values()))} resident" + (f" ({made_of})" if made_of else "")
    swap, tables = values.integer(semconv.MEMORY_SWAP), values.integer(semconv.MEMORY_PAGE_TABLES)
    told += f", {format_bytes(swap)} in swap" if swap else ""
    return told + (f", {format_bytes(tables)} of page tables" if tables else "")
