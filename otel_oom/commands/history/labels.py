"""Labels that the list and the page share: owner, limit, outcome, delivery status."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from otel_oom.commands.elements import Tone
from otel_oom.enrich.claims import UNKNOWN_SERVICE
from otel_oom.model.units import NS_PER_S, NS_PER_US, format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.attributes import KERNEL
from otel_oom.otlp.decode import DecodedEvent

UID_CHARS: Final = 8
"""Enough of a uid for ``otel-oom show``."""
CONTAINER_ID_CHARS: Final = 12

_STATUS_TONES: Final[Mapping[str, Tone]] = {
    "queued": "warning",
    "pending": "warning",
    "rejected": "alarm",
}
_OUTCOMES: Final = {"already_exiting": "was exiting", "skipped": "skipped"}
_EVENTS: Final = {
    semconv.EVENT_NO_VICTIM: "no victim",
    semconv.EVENT_PANIC: "panic",
    semconv.EVENT_NEAR_LIMIT: "near limit",
}


def format_time(unix_ns: int, *, exact: bool = False) -> str:
    """Return a time in UTC, to the second or to the microsecond."""
    time = datetime.fromtimestamp(unix_ns // NS_PER_S, UTC)
    micros = f".{unix_ns % NS_PER_S // NS_PER_US:06d}" if exact else ""
    return f"{time:%Y-%m-%dT%H:%M:%S}{micros}Z"


def victim_label(event: DecodedEvent) -> str:
    """Return the victim's name and pid; a kill of a whole cgroup names no process."""
    pid = event.attributes.integer("process.pid")
    if pid is None:
        return "whole cgroup" if event.name == semconv.EVENT_KILL else "-"
    return f"{event.attributes.text(semconv.VICTIM_COMM) or 'a process'} ({pid})"


def owner_label(event: DecodedEvent) -> str:
    """Return the victim's pod, else its container, unit or service."""
    attributes, resource = event.attributes, event.resource
    pod, container = resource.text("k8s.pod.name"), resource.text("container.id")
    if pod:
        parts = (resource.text("k8s.namespace.name"), pod, resource.text("k8s.container.name"))
        claimed = claim_suffix(event, "k8s.namespace.name", "k8s.pod.name", "k8s.container.name")
        return f"pod {'/'.join(filter(None, parts))}{claimed}"
    if container:
        return f"container {resource.text('container.name') or container[:CONTAINER_ID_CHARS]}"
    if event.name == semconv.EVENT_DROPPED:
        return attributes.text(semconv.DROPPED_MEMCG_PATH) or "-"
    unit = attributes.text(semconv.VICTIM_SYSTEMD_USER_UNIT) or attributes.text(
        semconv.VICTIM_SYSTEMD_UNIT
    )
    if unit:
        return f"unit {unit}"
    service = resource.text("service.name")
    if service not in {None, UNKNOWN_SERVICE} and event.name != semconv.EVENT_MISSED:
        return f"service {service}{claim_suffix(event, 'service.name')}"
    return "-"


def service_label(event: DecodedEvent) -> str:
    """Return the victim's service with its namespace, else its owner."""
    resource = event.resource
    name = resource.text("service.name")
    if name in {None, UNKNOWN_SERVICE}:
        return owner_label(event)
    full_name = "/".join(filter(None, (resource.text("service.namespace"), name)))
    return full_name + claim_suffix(event, "service.name", "service.namespace")


def claim_suffix(event: DecodedEvent, *names: str) -> str:
    """Return a mark if the victim itself claims any of these resource attributes."""
    claimed = event.attributes.values.get(semconv.SERVICE_CLAIMED)
    is_claimed = isinstance(claimed, tuple) and not {*names}.isdisjoint(claimed)
    return " (claimed)" if is_claimed else ""


def limit_label(event: DecodedEvent) -> str:
    """Return the owner and the size of the limit that was hit."""
    attributes = event.attributes
    limit_bytes = attributes.integer(semconv.LIMIT_MEMCG_LIMIT)
    suffix = f" {format_bytes(limit_bytes)}" if limit_bytes is not None else ""
    path = attributes.text(semconv.LIMIT_MEMCG_PATH)
    scope = attributes.text(semconv.LIMIT_SCOPE)
    if scope == "own":
        return f"own{suffix}"
    if scope == "pod":
        return f"its pod's{suffix}"
    if path:
        return f"{path}{suffix}"
    by_host = scope == "host" or attributes.text(semconv.DECISION_ORIGIN) in {"host", "page_fault"}
    return "the host" if by_host else "-"


def limit_owner_label(event: DecodedEvent) -> str:
    """Return the owner of the limit that was hit: the victim's own, another cgroup, the host."""
    attributes = event.attributes
    scope, owner = attributes.text(semconv.LIMIT_SCOPE), owner_label(event)
    if scope == "own" and owner != "-":
        return owner
    pod = event.resource.text("k8s.pod.name")
    if scope == "pod" and pod:
        return "/".join(filter(None, (event.resource.text("k8s.namespace.name"), f"pod {pod}")))
    return attributes.text(semconv.LIMIT_MEMCG_PATH) or limit_label(event)


def outcome_label(event: DecodedEvent, *, with_repeat: bool = True) -> str:
    """Return what happened, the userspace OOM daemon that killed, and if no death confirms it.

    ``with_repeat`` adds the number of a repeated kill.
    """
    if event.name == semconv.EVENT_KILL:
        outcome = event.attributes.text(semconv.OUTCOME) or "killed"
        killer = event.attributes.text(semconv.KILLER_NAME)
        suffix = f" by {killer}" if killer and killer != KERNEL else ""
        if event.attributes.values.get(semconv.KILLER_VERIFIED) is False:
            suffix += ", unverified"
        repeat = _repeat_suffix(event) if with_repeat else ""
        return _OUTCOMES.get(outcome, outcome) + suffix + repeat
    if event.name == semconv.EVENT_MISSED:
        return f"{event.attributes.integer(semconv.MISSED_COUNT)} missed"
    if event.name == semconv.EVENT_DROPPED:
        return f"{event.attributes.integer(semconv.DROPPED_COUNT)} dropped"
    return _EVENTS.get(event.name, event.name.removeprefix("oom."))


def _repeat_suffix(event: DecodedEvent) -> str:
    count = event.attributes.integer(semconv.REPEAT_COUNT) or 1
    return f", {ordinal(count)} time" if count > 1 else ""


def ordinal(number: int) -> str:
    """Return a positive number as in English: 1st, 2nd, 3rd, 11th."""
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 // 10 == 1 else last}"


def status_label(status: str | None) -> str:
    """Return the delivery status in one word, without the reason of a rejection."""
    return "-" if status is None else status.partition(" ")[0]


def status_tone(status: str | None) -> Tone:
    """Return the tone of a delivery status that is not final, or bad."""
    return _STATUS_TONES.get(status_label(status), "")
