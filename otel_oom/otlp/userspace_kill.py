"""A kill by user space as OTLP: the same event as one by the kernel, with the killer named."""

from __future__ import annotations

from msgspec.structs import replace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
)

from otel_oom.enrich.userspace_kill import EnrichedUserspaceKill
from otel_oom.model.types import UserspaceOomDaemon
from otel_oom.model.units import format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.attributes import (
    OWN_MEMCG,
    around_containers,
    cgroup,
    label,
    only_known,
    victim_place,
    victim_process,
)
from otel_oom.otlp.body import inside_of
from otel_oom.otlp.log_record import SCOPE, context_of, log_event, resource_of
from otel_oom.otlp.snapshot_attributes import around
from otel_oom.otlp.types import Attributes


def userspace_span(enriched: EnrichedUserspaceKill) -> ReadableSpan:
    """Build the span of a userspace kill.

    It ends at its start, because the daemons do not log the exit of each victim. The daemon's
    message is in the log event with the same span id.
    """
    event, attributes = enriched.event, userspace_attributes(enriched)
    attributes.pop("log.record.original", None)
    return ReadableSpan(
        name=semconv.SPAN_KILL,
        context=context_of(event.trace_id, event.span_id),
        kind=SpanKind.INTERNAL,
        resource=resource_of(enriched.resource),
        attributes=attributes,
        status=Status(StatusCode.ERROR, userspace_sentence(enriched)),
        start_time=event.time_unix_ns,
        end_time=event.time_unix_ns,
        instrumentation_scope=SCOPE,
    )


def userspace_label(enriched: EnrichedUserspaceKill) -> str:
    """What it is counted under: see :func:`otel_oom.otlp.attributes.kill_label`."""
    return label(enriched.outcome, None, None, enriched.event.killer.name)


def userspace_record(enriched: EnrichedUserspaceKill) -> ReadableLogRecord:
    """Build the log event of a userspace kill."""
    event = enriched.event
    return log_event(
        event,
        enriched.observed_unix_ns,
        name=semconv.EVENT_KILL,
        severity=SeverityNumber.FATAL,
        body=userspace_sentence(enriched),
        attributes=userspace_attributes(enriched),
        resource=enriched.resource,
        span=context_of(event.trace_id, event.span_id),
    )


def userspace_attributes(enriched: EnrichedUserspaceKill) -> Attributes:
    """Every attribute of the kill; what nobody told is left out."""
    event, witness, killer = enriched.event, enriched.witness, enriched.event.killer
    victim, limits = event.victim, witness.memcg_usage
    if event.completed:
        # What the cgroup holds by now, it does not hold for the killed.
        limits = replace(limits, usage=event.usage, swap_usage=None) if limits else None
        witness = replace(witness, victim_cgroup=None)
    return only_known(
        {
            "log.record.uid": event.uid,
            "log.record.original": event.original,
            semconv.KILLER_NAME: killer.name,
            semconv.KILLER_SIGNAL: killer.signal,
            semconv.KILLER_REASON: killer.reason,
            semconv.KILLER_LIMIT: killer.limit,
            semconv.KILLER_PRESSURE: killer.pressure,
            semconv.KILLER_MEMCG_PATH: killer.memcg,
            semconv.KILLER_RULE: killer.rule,
            **(victim_process(event, victim, enriched.executable, witness) if victim else {}),
            semconv.VICTIM_COMM: victim.comm if victim else None,
            semconv.VICTIM_GID: victim.gid if victim else None,
            semconv.VICTIM_PID_NAMESPACE: victim.pid_ns if victim else None,
            semconv.VICTIM_MOUNT_NAMESPACE: victim.mnt_ns if victim else None,
            semconv.VICTIM_SCORE_ADJ: victim.score_adj if victim else None,
            semconv.MEMORY_RESIDENT: event.resident,
            semconv.MEMCG_USAGE: event.usage,
            **cgroup(OWN_MEMCG, event.memcg, limits),
            **victim_place(enriched.place),
            semconv.OUTCOME: enriched.outcome,
            semconv.INCIDENT_ID: event.uid,
            **around(event, witness),
            **around_containers(enriched.containers),
            semconv.CAPTURE_SOURCE: event.capture.source,
            semconv.CAPTURE_HOOK: event.capture.hook,
            semconv.CAPTURE_RECOVERED: event.capture.recovered or None,
        }
    )


def userspace_sentence(enriched: EnrichedUserspaceKill) -> str:
    """Who killed what, where, and why as far as it said so; one sentence."""
    event, container = enriched.event, enriched.containers.victim
    path = event.memcg.path if event.memcg else None
    inside = inside_of(container, path or "" if event.victim else "")
    if event.victim:
        whom = f"{event.victim.comm or 'a process'} (pid {event.victim.tgid}){inside}"
        what = f"{event.killer.name} sent {event.killer.signal} to {whom}"
        if event.resident is not None:
            what += f", which held {format_bytes(event.resident)} of memory"
        place = f"; its cgroup is {path}" if path else ""
    else:
        did = "killed" if event.completed else "is about to kill"
        what = f"{event.killer.name} {did} every process of the cgroup {path}{inside}"
        if event.usage is not None:
            what += f", which held {format_bytes(event.usage)} of memory"
        place = ""
    return f"{what}{_why(event.killer)}{place}."


_BOUNDS = {
    "memory_used": "of the host's memory and of its swap were used",
    "swap_used": "of the host's swap were used",
}


def _why(killer: UserspaceOomDaemon) -> str:
    if killer.reason == "memory_available":
        least = "it watches over" if killer.limit is None else f"{killer.limit:g} %"
        return f", for the host had less memory available than {least}"
    if killer.reason in _BOUNDS and killer.limit is not None:
        return f", for more than {killer.limit:g} % {_BOUNDS[killer.reason]}"
    rule = f", by its rule {killer.rule}" if killer.rule else ""
    if killer.pressure is None:
        return rule
    bound = "" if killer.limit is None else f", of which it allows {killer.limit:g} %"
    return f"{rule}; the memory pressure of {killer.memcg} was {killer.pressure:g} %{bound}"
