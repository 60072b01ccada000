"""Who asked for the memory, for which, and where in the kernel and in its own program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from otel_oom.commands.console.page import Page
from otel_oom.model.units import PAGE_BYTES, format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.body import MEMORY_TYPES
from otel_oom.otlp.decode import DecodedEvent

_ENTRIES: Final = {"page_fault": "a page fault", "kernel_thread": "a kernel thread"}
_BY: Final = {
    "memcg": "a cgroup had no room",
    "host": "the host had no page left",
    "page_fault": "a page fault found no memory",
    "sysrq": "somebody asked for it (sysrq f)",
}
_ID_CHARS: Final = 12


def lines(record: DecodedEvent, layout: Page) -> Iterator[str]:
    """The section; empty where nothing is known of it."""
    values = record.attributes
    kernel = (values.text(semconv.REQUEST_KERNEL_STACK) or "").splitlines()
    program = (values.text(semconv.REQUEST_USER_STACK) or "").splitlines()
    rows = [
        *layout.row("asked by", _trigger(record)),
        *layout.row("for", _request(record)),
        *layout.row("decided as", _decision(record)),
    ]
    if not rows and not kernel and not program:
        return
    yield from layout.heading("Where it was asked for")
    yield from rows
    if kernel or program:
        yield ""
        left = ["in the kernel, from the decision outwards", *(f"  {frame}" for frame in kernel)]
        right = ["in the program, from the inside outwards", *(f"  {frame}" for frame in program)]
        yield from layout.columns(left if kernel else [], right if program else [])


def _trigger(record: DecodedEvent) -> str | None:
    values = record.attributes
    pid, comm = values.integer(semconv.TRIGGER_PID), values.text(semconv.TRIGGER_COMM)
    if pid is None:
        return comm
    tid = values.integer(semconv.TRIGGER_TID)
    thread = f", thread {tid}" if tid not in {None, pid} else ""
    who = f"{comm or 'a process'}, pid {pid}{thread}"
    if pid == values.integer("process.pid"):
        return f"{who}: the victim itself"
    container = values.text(semconv.TRIGGER_CONTAINER_NAME) or values.text(
        semconv.TRIGGER_CONTAINER_ID
    )
    unit = values.text(semconv.TRIGGER_USER_UNIT) or values.text(semconv.TRIGGER_UNIT)
    where = (
        f"container {container}" if container else unit or values.text(semconv.TRIGGER_MEMCG_PATH)
    )
    return f"{who}, another than the victim{f', in {where}' if where else ''}"


def _request(record: DecodedEvent) -> str | None:
    values = record.attributes
    memory, entry = (
        values.text(semconv.REQUEST_MEMORY_TYPE),
        values.text(semconv.REQUEST_ENTRY_POINT),
    )
    order, flags = values.integer(semconv.REQUEST_ORDER), values.text(semconv.REQUEST_GFP_FLAGS)
    parts = [
        MEMORY_TYPES.get(memory, memory) if memory else None,
        (f"in {_ENTRIES[entry]}" if entry in _ENTRIES else f"by {entry}()") if entry else None,
        format_bytes(PAGE_BYTES << order) if order is not None and order >= 0 else None,
        flags,
    ]
    return ", ".join(filter(None, parts)) or None


def _decision(record: DecodedEvent) -> str | None:
    values = record.attributes
    by, message = values.text(semconv.DECISION_ORIGIN), values.text(semconv.DECISION_MESSAGE)
    return "; ".join(filter(None, (_BY.get(by or ""), f'"{message}"' if message else None))) or None
