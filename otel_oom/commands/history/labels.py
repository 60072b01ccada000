"""What the list and the page say alike: whose it was, whose limit, what became of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from otel_oom.model.units import NS_PER_S, NS_PER_US, format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.attributes import KERNEL
from otel_oom.otlp.decode import DecodedEvent

_ID_CHARS: Final = 12
_OUTCOMES: Final = {"already_exiting": "was exiting", "skipped": "let go before"}
_EVENTS: Final = {
    semconv.EVENT_NO_VICTIM: "nobody to kill",
    semconv.EVENT_PANIC: "the host panicked",
}


def time_of(unix_ns: int, *, exact: bool = False) -> str:
    """A time in UTC to the second, or to the microsecond."""
    at = datetime.fromtimestamp(unix_ns // NS_PER_S, UTC)
    micros = f".{unix_ns % NS_PER_S // NS_PER_US:06d}" if exact else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}{micros}Z"


def victim(record: DecodedEvent) -> str:
    """The victim by name and id; nobody, or all of a cgroup, where no process was told."""
    pid = record.attributes.integer("process.pid")
    if pid is None:
        return "all of it" if record.name == semconv.EVENT_KILL else "-"
    return f"{record.attributes.text(semconv.VICTIM_COMM) or 'a process'} ({pid})"


def whose(record: DecodedEvent) -> str:
    """The pod, the container, the unit or the service that it was, by what people call it."""
    values, resource = record.attributes, record.resource
    pod, container = resource.text("k8s.pod.name"), resource.text("container.id")
    if pod:
        parts = (resource.text("k8s.namespace.name"), pod, resource.text("k8s.container.name"))
        return f"pod {'/'.join(filter(None, parts))}"
    if container:
        return f"container {resource.text('container.name') or container[:_ID_CHARS]}"
    unit = values.text(semconv.VICTIM_USER_UNIT) or values.text(semconv.VICTIM_UNIT)
    if unit:
        return f"unit {unit}"
    service = resource.text("service.name")
    return f"service {service}" if service and record.name != semconv.EVENT_MISSED else "-"


def limit(record: DecodedEvent) -> str:
    """Whose limit was hit, and what it was."""
    values = record.attributes
    amount = values.integer(semconv.LIMIT_MEMCG_LIMIT)
    of = f" {format_bytes(amount)}" if amount is not None else ""
    path = values.text(semconv.LIMIT_MEMCG_PATH)
    scope = values.text(semconv.LIMIT_SCOPE)
    if scope == "own":
        return f"own{of}"
    if scope == "pod":
        return f"its pod's{of}"
    if path:
        return f"{path}{of}"
    by_host = scope == "host" or values.text(semconv.DECISION_ORIGIN) in {"host", "page_fault"}
    return "the host" if by_host else "-"


def outcome(record: DecodedEvent) -> str:
    """What became of it."""
    if record.name == semconv.EVENT_KILL:
        told = record.attributes.text(semconv.OUTCOME) or "killed"
        killer = record.attributes.text(semconv.KILLER_NAME)
        by = f" by {killer}" if killer and killer != KERNEL else ""
        return _OUTCOMES.get(told, told) + by
    if record.name == semconv.EVENT_MISSED:
        return f"{record.attributes.integer(semconv.MISSED_COUNT)} missed"
    return _EVENTS.get(record.name, record.name.removeprefix("oom."))


def fate(fate: str | None) -> str:
    """What has become of a message, in a word."""
    if fate is None:
        return "-"
    return {"delivered": "sent", "queued": "waits", "pending": "not yet"}.get(fate, "refused")
