"""The allocation that failed: its trigger, its kind, its stacks in kernel and program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from otel_oom.commands.elements import Element, Section, Stack, Stacks, known_facts
from otel_oom.model.units import PAGE_BYTES, format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.body import ENTRY_POINTS, MEMORY_TYPES
from otel_oom.otlp.decode import DecodedEvent

_ORIGINS: Final = {
    "memcg": "a cgroup reached its limit",
    "host": "the host ran out of memory",
    "page_fault": "a page fault ran out of memory",
    "sysrq": "requested by SysRq-f",
}


def describe_allocation(event: DecodedEvent) -> Section | None:
    """Return the section; ``None`` if none of it is known."""
    elements = tuple(_elements(event))
    return Section("allocation", "Allocation", elements) if elements else None


def _elements(event: DecodedEvent) -> Iterator[Element]:
    yield from known_facts("trigger", _trigger(event))
    yield from known_facts("request", _request(event))
    yield from known_facts("reason", _reason(event))
    titles = {
        semconv.REQUEST_KERNEL_STACK: "kernel stack, innermost first",
        semconv.REQUEST_USER_STACK: "user stack, innermost first",
    }
    stacks = (Stack(title, event.attributes.texts(name)) for name, title in titles.items())
    if known := tuple(stack for stack in stacks if stack.frames):
        yield Stacks(known)


def _trigger(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    pid, comm = attributes.integer(semconv.TRIGGER_PID), attributes.text(semconv.TRIGGER_COMM)
    if pid is None:
        return comm
    tid = attributes.integer(semconv.TRIGGER_TID)
    thread = f", thread {tid}" if tid not in {None, pid} else ""
    process = f"{comm or 'a process'}, pid {pid}{thread}"
    victim = attributes.integer("process.pid")
    if pid == victim:
        return f"{process}: the victim itself"
    container = attributes.text(semconv.TRIGGER_CONTAINER_NAME) or attributes.text(
        semconv.TRIGGER_CONTAINER_ID
    )
    unit = attributes.text(semconv.TRIGGER_SYSTEMD_USER_UNIT) or attributes.text(
        semconv.TRIGGER_SYSTEMD_UNIT
    )
    where = (
        f"container {container}"
        if container
        else unit or attributes.text(semconv.TRIGGER_MEMCG_PATH)
    )
    parts = (process, "not the victim" if victim else None, f"in {where}" if where else None)
    return ", ".join(filter(None, parts))


def _request(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    memory_type = attributes.text(semconv.REQUEST_MEMORY_TYPE)
    entry_point = attributes.text(semconv.REQUEST_ENTRY_POINT)
    order = attributes.integer(semconv.REQUEST_ORDER)
    parts = [
        MEMORY_TYPES.get(memory_type, memory_type) if memory_type else None,
        ENTRY_POINTS.get(entry_point, f"by {entry_point}()") if entry_point else None,
        format_bytes(PAGE_BYTES << order) if order is not None and order >= 0 else None,
        "|".join(attributes.texts(semconv.REQUEST_GFP_FLAGS)),
    ]
    return ", ".join(filter(None, parts)) or None


def _reason(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    origin = _ORIGINS.get(attributes.text(semconv.DECISION_ORIGIN) or "")
    message = attributes.text(semconv.DECISION_MESSAGE)
    return "; ".join(filter(None, (origin, f'"{message}"' if message else None))) or None
