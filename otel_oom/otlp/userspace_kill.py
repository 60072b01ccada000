"""A userspace kill: sentence, attributes and span, with the daemon named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from otel_oom.enrich.types import EnrichedUserspaceKill
from otel_oom.model.types import UserspaceOomDaemon
from otel_oom.model.units import format_bytes
from otel_oom.otlp import entity_attributes as entities
from otel_oom.otlp import semconv
from otel_oom.otlp.body import location_phrase
from otel_oom.otlp.log_record import SCOPE, sdk_resource, span_context
from otel_oom.otlp.semconv import Attributes
from otel_oom.otlp.snapshot_attributes import killed_task_attributes, snapshot_attributes

_USAGE: Final = {"memory_used": "memory and swap", "swap_used": "swap"}


def userspace_span(
    enriched: EnrichedUserspaceKill,
    attributes: Attributes,
    sentence: str,
    resource: Mapping[str, AttributeValue],
) -> ReadableSpan:
    """Build the span of a userspace kill.

    It ends at its start, because the daemons do not log the exit of each victim. The daemon's
    message is in the log event with the same span id.
    """
    event = enriched.event
    return ReadableSpan(
        name=semconv.SPAN_KILL,
        context=span_context(event.trace_id, event.span_id),
        kind=SpanKind.INTERNAL,
        resource=sdk_resource(resource),
        attributes=attributes,
        status=Status(StatusCode.ERROR, sentence),
        start_time=event.time_unix_ns,
        end_time=event.time_unix_ns,
        instrumentation_scope=SCOPE,
    )


def userspace_attributes(enriched: EnrichedUserspaceKill) -> Attributes:
    """Return all known attributes of a userspace kill, with the daemon's message."""
    event, snapshot, killer = enriched.event, enriched.snapshot, enriched.event.killer
    usage = event.memcg_usage
    if event.completed:
        # The snapshot of the cgroup is without the killed processes.
        usage = replace(usage, usage=event.usage, swap_usage=None) if usage else None
        snapshot = replace(snapshot, victim_cgroup=None)
    return entities.drop_none(
        {
            "log.record.uid": event.uid,
            "log.record.original": event.original,
            semconv.KILLER_NAME: killer.name,
            semconv.KILLER_VERIFIED: enriched.verified,
            semconv.KILLER_SIGNAL: killer.signal,
            semconv.KILLER_REASON: killer.reason,
            semconv.KILLER_LIMIT: killer.limit,
            semconv.KILLER_PRESSURE: killer.pressure,
            semconv.KILLER_MEMCG_PATH: killer.memcg,
            semconv.KILLER_RULE: killer.rule,
            **entities.process_attributes(event, enriched.executable, snapshot),
            "process.command_args": enriched.command,
            semconv.VICTIM_MEMORY_RESIDENT: event.resident,
            semconv.VICTIM_MEMCG_USAGE: event.usage,
            **entities.memcg_attributes(entities.VICTIM_MEMCG, event.memcg, usage),
            **entities.systemd_and_pod_attributes(enriched),
            **entities.service_attributes(enriched.service),
            "error.type": entities.ERROR_TYPE,
            semconv.OUTCOME: enriched.outcome,
            semconv.INCIDENT_ID: event.uid,
            **entities.repeat_attributes(enriched.repeat),
            **snapshot_attributes(event, snapshot),
            **killed_task_attributes(event),
            **entities.finding_attributes(enriched.finding),
            **entities.related_container_attributes(enriched.containers),
            semconv.CAPTURE_SOURCE: event.capture.source,
            semconv.CAPTURE_HOOK: event.capture.hook,
            semconv.CAPTURE_RECOVERED: event.capture.recovered or None,
            **entities.provenance_attributes(event),
        }
    )


def userspace_body(enriched: EnrichedUserspaceKill) -> str:
    """Return one sentence with the daemon, the victim, its location and the reason."""
    event, container = enriched.event, enriched.containers.victim
    path = event.memcg.path if event.memcg else None
    location = location_phrase(container, path or "" if event.victim else "")
    if event.victim:
        process = f"{event.victim.comm or 'a process'} (pid {event.victim.tgid}){location}"
        kill, used = f"{event.killer.name} sent {event.killer.signal} to {process}", event.resident
        cgroup = f"; its cgroup is {path}" if path else ""
    else:
        action = "killed" if event.completed else "is about to kill"
        kill = f"{event.killer.name} {action} every process of the cgroup {path}{location}"
        used, cgroup = event.usage, ""
    memory = "" if used is None else f", which used {format_bytes(used)} of memory"
    source = "" if enriched.verified else " This is known from its log message alone."
    return f"{kill}{memory}{_reason_phrase(event.killer)}{cgroup}.{source}"


def _reason_phrase(killer: UserspaceOomDaemon) -> str:
    if killer.reason == "memory_available":
        limit = "its limit" if killer.limit is None else f"{killer.limit:g} %"
        return f", because the available memory of the host was below {limit}"
    if killer.reason in _USAGE and killer.limit is not None:
        usage = f"{killer.limit:g} % of its {_USAGE[killer.reason]}"
        return f", because the host used more than {usage}"
    rule = f", by its rule {killer.rule}" if killer.rule else ""
    if killer.pressure is None:
        return rule
    limit = "" if killer.limit is None else f", above its limit of {killer.limit:g} %"
    return f"{rule}; the memory pressure of {killer.memcg} was {killer.pressure:g} %{limit}"
