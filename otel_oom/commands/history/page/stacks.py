"""The allocation that failed: its trigger, its kind, its stacks in kernel and program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import RenderableType

from otel_oom.commands.console import page
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


def render_allocation(event: DecodedEvent) -> Iterator[RenderableType]:
    """Yield the section; nothing if none of it is known."""
    attributes = event.attributes
    kernel_stack = (attributes.text(semconv.REQUEST_KERNEL_STACK) or "").splitlines()
    user_stack = (attributes.text(semconv.REQUEST_USER_STACK) or "").splitlines()
    rows = [
        *page.row("trigger", _trigger(event)),
        *page.row("request", _request(event)),
        *page.row("reason", _reason(event)),
    ]
    if not rows and not kernel_stack and not user_stack:
        return
    yield page.heading("Allocation")
    yield from rows
    if kernel_stack or user_stack:
        yield ""
        yield page.columns(
            _titled("kernel stack, innermost first", kernel_stack),
            _titled("user stack, innermost first", user_stack),
        )


def _titled(title: str, stack: list[str]) -> list[str]:
    return [title, *(f"  {frame}" for frame in stack)] if stack else []


def _trigger(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    pid, comm = attributes.integer(semconv.TRIGGER_PID), attributes.text(semconv.TRIGGER_COMM)
    if pid is None:
        return comm
    tid = attributes.integer(semconv.TRIGGER_TID)
    thread = f", thread {tid}" if tid not in {None, pid} else ""
    process = f"{comm or 'a process'}, pid {pid}{thread}"
    if pid == attributes.integer("process.pid"):
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
    return f"{process}, not the victim{f', in {where}' if where else ''}"


def _request(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    memory_type = attributes.text(semconv.REQUEST_MEMORY_TYPE)
    entry_point = attributes.text(semconv.REQUEST_ENTRY_POINT)
    order = attributes.integer(semconv.REQUEST_ORDER)
    parts = [
        MEMORY_TYPES.get(memory_type, memory_type) if memory_type else None,
        ENTRY_POINTS.get(entry_point, f"by {entry_point}()") if entry_point else None,
        format_bytes(PAGE_BYTES << order) if order is not None and order >= 0 else None,
        attributes.text(semconv.REQUEST_GFP_FLAGS),
    ]
    return ", ".join(filter(None, parts)) or None


def _reason(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    origin = _ORIGINS.get(attributes.text(semconv.DECISION_ORIGIN) or "")
    message = attributes.text(semconv.DECISION_MESSAGE)
    return "; ".join(filter(None, (origin, f'"{message}"' if message else None))) or None
