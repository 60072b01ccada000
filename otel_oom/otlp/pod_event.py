"""A kill in a pod as an Event of Kubernetes (events.k8s.io/v1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_oom.model.text import escape_for_terminal
from otel_oom.model.units import NS_PER_S, format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.attributes import KERNEL
from otel_oom.otlp.decode import Attributes, DecodedEvent, decode_otlp

REASON: Final = "OOMKilled"
CONTROLLER: Final = "otel-oom"

_ACTION: Final = "OOMKill"
_MAX_NOTE_BYTES: Final = 1024
"""Kubernetes, pkg/apis/core/validation/events.go."""
_MAX_COMM_CHARS: Final = 64
_MAX_NAME_CHARS: Final = 253

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAMESPACE: Final = re.compile(_LABEL)
_POD: Final = re.compile(rf"(?=.{{1,{_MAX_NAME_CHARS}}}\Z){_LABEL}(?:\.{_LABEL})*")
"""What the API server accepts as a name: the namespace is a part of a URL."""
_OUTCOMES: Final = frozenset({"killed", "already_exiting"})
_LIMITS: Final = {"own": "own limit", "pod": "limit of the pod", "ancestor": "limit above the pod"}


class PodKill(Struct, frozen=True):
    """A kill of a process in a pod.

    ``namespace`` and ``pod`` are empty if it is not verified that the runtime of the node names
    them.
    """

    uid: str
    unix_ns: int
    pod_uid: str
    namespace: str
    pod: str
    container: str
    note: str

    @property
    def event_name(self) -> str:
        """Return a name that is the same whenever the kill is sent."""
        suffix = f".{self.uid.replace('-', '')}"
        return self.pod[: _MAX_NAME_CHARS - len(suffix)].rstrip("-.") + suffix

    def to_event(self, instance: str, more_count: int = 0, last_unix_ns: int = 0) -> dict[str, Any]:
        """Return the Event that ``instance`` reports.

        ``more_count`` kills in the pod followed, the last one at ``last_unix_ns``.
        """
        more, series = "", {}
        if more_count:
            more = f" {more_count} more in this pod followed."
            last = _format_time(max(last_unix_ns, self.unix_ns))
            series = {"series": {"count": 1 + more_count, "lastObservedTime": last}}
        field = f"spec.containers{{{self.container}}}"
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": self.event_name, "namespace": self.namespace},
            "eventTime": _format_time(self.unix_ns),
            "type": "Warning",
            "reason": REASON,
            "action": _ACTION,
            "note": _cut_bytes(self.note, _MAX_NOTE_BYTES - len(more)) + more,
            "reportingController": CONTROLLER,
            "reportingInstance": instance,
            "regarding": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": self.namespace,
                "name": self.pod,
                "uid": self.pod_uid,
                **({"fieldPath": field} if self.container else {}),
            },
            **series,
        }


def decode_pod_kills(body: bytes) -> Iterator[PodKill]:
    """Yield the kills in pods of an ``ExportLogsServiceRequest``. Raises DecodeError."""
    for group in ExportLogsServiceRequest.FromString(body).resource_logs:
        event = decode_otlp(ExportLogsServiceRequest(resource_logs=[group]), None)
        pod_uid = event.resource.text("k8s.pod.uid")
        is_kill = event.name == semconv.EVENT_KILL and _is_certain(event.attributes)
        if is_kill and pod_uid and event.uid:
            yield _pod_kill(event, pod_uid)


def _is_certain(attributes: Attributes) -> bool:
    """Return whether the victim died, by more than a message that anybody may have written."""
    outcome = attributes.text(semconv.OUTCOME)
    return outcome in _OUTCOMES and attributes.values.get(semconv.KILLER_VERIFIED) is not False


def _pod_kill(event: DecodedEvent, pod_uid: str) -> PodKill:
    values = event.attributes
    namespace, pod = (
        event.resource.text(f"k8s.{kind}.name") or "" for kind in ("namespace", "pod")
    )
    container = event.resource.text("k8s.container.name") or ""
    # Absent, as where the user drops it, is not verified.
    is_verified = values.values.get(semconv.VICTIM_POD_VERIFIED) is True
    if not (is_verified and _NAMESPACE.fullmatch(namespace) and _POD.fullmatch(pod)):
        namespace = pod = ""
    return PodKill(
        uid=event.uid,
        unix_ns=event.unix_ns,
        pod_uid=pod_uid,
        namespace=namespace,
        pod=pod,
        container=container if _NAMESPACE.fullmatch(container) else "",
        note=_describe(values),
    )


def _describe(values: Attributes) -> str:
    """Return the victim, its memory, the limit and the advice."""
    comm = escape_for_terminal((values.text(semconv.VICTIM_COMM) or "a process")[:_MAX_COMM_CHARS])
    pid, resident = values.integer("process.pid"), values.integer(semconv.VICTIM_MEMORY_RESIDENT)
    parts = [comm if pid is None else f"{comm} (pid {pid} of the node)"]
    if resident is not None:
        parts.append(f"{format_bytes(resident)} of memory")
    scope, limit = (
        (values.text(semconv.LIMIT_SCOPE) or ""),
        values.integer(semconv.LIMIT_MEMCG_LIMIT),
    )
    if scope in _LIMITS:
        parts.append(_LIMITS[scope] + ("" if limit is None else f" {format_bytes(limit)}"))
    elif scope == "host":
        parts.append("the node was out of memory")
    killer = values.text(semconv.KILLER_NAME) or ""
    if killer != KERNEL:
        parts.append(f"killed by {escape_for_terminal(killer[:_MAX_COMM_CHARS])}")
    # Beyond the pod's own limits, the advice names other people's processes.
    advice = values.text(semconv.ADVICE) if scope in {"own", "pod"} else None
    note = f"{', '.join(parts)}."
    return f"{note} {escape_for_terminal(advice)}" if advice else note


def _cut_bytes(text: str, max_bytes: int) -> str:
    raw = text.encode()
    if len(raw) <= max_bytes:
        return text
    return raw[: max_bytes - len("…".encode())].decode("utf-8", "ignore") + "…"


def _format_time(unix_ns: int) -> str:
    """Format a time as a ``MicroTime``."""
    time = datetime.fromtimestamp(unix_ns // NS_PER_S, UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{unix_ns % NS_PER_S // 1000:06}Z"
