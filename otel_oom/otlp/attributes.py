"""Attributes of the kernel's events; a kill's log event and span share them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from otel_oom.enrich.stack_analysis import StackAnalysis
from otel_oom.enrich.types import (
    EnrichedDroppedEvents,
    EnrichedKill,
    EnrichedMissedKills,
    EnrichedNoVictim,
    EnrichedPanic,
)
from otel_oom.linux.systemd.units import find_owning_unit
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import NoVictim, OomKill, Panic
from otel_oom.model.types import UserspaceOomDaemon
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp import entity_attributes as entities
from otel_oom.otlp import semconv
from otel_oom.otlp.growth import growth_attributes
from otel_oom.otlp.mapping_attributes import mapping_attributes
from otel_oom.otlp.semconv import Attributes, Value
from otel_oom.otlp.snapshot_attributes import snapshot_attributes, task_attributes

KERNEL: Final = "kernel"
"""The ``oom.killer.name`` of the kernel."""


def kill_attributes(enriched: EnrichedKill) -> Attributes:
    """Return all known attributes of a kill, except its log text."""
    kill, snapshot, setting = enriched.event, enriched.snapshot, enriched.limit_setting
    return entities.drop_none(
        {
            "log.record.uid": kill.uid,
            **entities.process_attributes(kill, enriched.executable, snapshot),
            "process.command_args": enriched.command,
            **_killer_attributes(kill),
            **entities.memory_attributes(kill.memory),
            **mapping_attributes(kill.mappings),
            **entities.memcg_attributes(entities.VICTIM_MEMCG, kill.memcg, kill.memcg_usage),
            **entities.systemd_and_pod_attributes(enriched),
            **entities.service_attributes(enriched.service),
            "error.type": entities.ERROR_TYPE,
            semconv.OUTCOME: enriched.outcome,
            semconv.INCIDENT_ID: kill.incident or kill.uid,
            **entities.repeat_attributes(enriched.repeat),
            semconv.REPORT_ID: kill.report_uid,
            semconv.REPORT_DROPPED: kill.report_dropped or None,
            semconv.LIMIT_SCOPE: enriched.limit_scope,
            semconv.LIMIT_SYSTEMD_SETTING: setting.line if setting else None,
            semconv.LIMIT_SYSTEMD_FILE: str(setting.file) if setting else None,
            **growth_attributes(enriched),
            **snapshot_attributes(kill, snapshot),
            **task_attributes(enriched),
            **entities.finding_attributes(enriched.finding),
            **entities.related_container_attributes(enriched.containers),
            **_decision_attributes(kill, enriched.stack_analysis, enriched.user_stack),
        }
    )


def _killer_attributes(kill: OomKill) -> dict[str, Value | None]:
    """Return the kernel as the killer, or the daemon that had it choose."""
    killer = kill.killer or UserspaceOomDaemon(KERNEL)
    return {
        semconv.KILLER_NAME: killer.name,
        semconv.KILLER_REASON: killer.reason,
        semconv.KILLER_LIMIT: killer.limit,
        semconv.KILLER_RULE: killer.rule,
    }


def no_victim_attributes(enriched: EnrichedNoVictim) -> Attributes:
    """Return all known attributes of an OOM without a victim."""
    event = enriched.event
    bounded = entities.drop_none(
        {
            "log.record.uid": event.uid,
            semconv.DECISION_REPEAT_COUNT: event.repeat_count,
            semconv.REPORT_DROPPED: event.report_dropped or None,
            **entities.related_container_attributes(enriched.containers),
            **_decision_attributes(event, enriched.stack_analysis, enriched.user_stack),
        }
    )
    return bounded | log_text(event)


def panic_attributes(enriched: EnrichedPanic) -> Attributes:
    """Return all known attributes of a panic."""
    event = enriched.event
    bounded = entities.drop_none(
        {
            "log.record.uid": event.uid,
            semconv.TIME_SOURCE: event.time_source,
            **_decision_attributes(event, enriched.stack_analysis, ()),
            semconv.TRIGGER_TID: event.tid,
            semconv.TRIGGER_COMM: event.comm,
            semconv.PANIC_MESSAGE: event.message,
            semconv.PANIC_BOOT_ID: event.boot_id or None,
        }
    )
    return bounded | log_text(event)


def missed_attributes(enriched: EnrichedMissedKills) -> Attributes:
    """Return all attributes of missed kills."""
    event = enriched.event
    return entities.drop_none(
        {
            "log.record.uid": event.uid,
            semconv.MISSED_COUNT: event.count,
            semconv.MISSED_KERNEL_COUNT: None if event.killer else event.kernel_count,
            semconv.MISSED_REASON: event.reason,
            semconv.MISSED_UPPER_BOUND: event.upper_bound,
            semconv.KILLER_NAME: event.killer,
            semconv.VICTIM_SYSTEMD_UNIT: event.unit,
        }
    )


def dropped_attributes(enriched: EnrichedDroppedEvents) -> Attributes:
    """Return all attributes of dropped events."""
    event = enriched.event
    return entities.drop_none(
        {
            "log.record.uid": event.uid,
            semconv.DROPPED_COUNT: event.count,
            semconv.DROPPED_REPORT_COUNT: event.report_count,
            semconv.DROPPED_DEAD_LETTER_COUNT: event.dead_letter_count,
            semconv.DROPPED_MEMCG_PATH: event.holder or None,
            semconv.DROPPED_DURATION: (event.time_unix_ns - event.start_unix_ns) / NS_PER_S,
        }
    )


def log_text(event: OomKill | NoVictim | Panic) -> Attributes:
    """Return the text of the kernel log, which may be longer than other values.

    The event bounds it. A span has none, because the log event with its id has it.
    """
    return {"log.record.original": event.original} if event.original else {}


def _decision_attributes(
    event: OomEvent, stack_analysis: StackAnalysis, user_stack: Sequence[str]
) -> dict[str, Value | None]:
    decision = event.decision
    attributes = {
        **entities.trigger_attributes(event),
        semconv.DECISION_ORIGIN: stack_analysis.origin,
        semconv.REQUEST_KERNEL_STACK: event.stack,
        semconv.REQUEST_MEMORY_TYPE: stack_analysis.memory_type,
        semconv.REQUEST_ENTRY_POINT: stack_analysis.entry_point,
        semconv.REQUEST_USER_STACK: user_stack,
        semconv.CAPTURE_SOURCE: event.capture.source,
        semconv.CAPTURE_HOOK: event.capture.hook,
        semconv.CAPTURE_RECOVERED: event.capture.recovered or None,
    }
    attributes |= entities.provenance_attributes(event)
    if decision is None:
        return attributes
    owner = find_owning_unit(decision.memcg.path) if decision.memcg else None
    return {
        **attributes,
        semconv.LIMIT_SYSTEMD_UNIT: owner,
        **entities.memcg_attributes(entities.LIMIT_MEMCG, decision.memcg, decision.memcg_usage),
        semconv.DECISION_CONSTRAINT: decision.constraint,
        semconv.DECISION_POINTS: decision.points,
        semconv.DECISION_TOTAL_MEMORY: decision.total_memory,
        semconv.DECISION_MESSAGE: decision.message,
        semconv.DECISION_SOURCE: decision.source,
        semconv.REQUEST_ORDER: decision.order,
        semconv.REQUEST_GFP_MASK: decision.gfp_mask,
        semconv.REQUEST_GFP_FLAGS: decision.gfp_flags.split("|") if decision.gfp_flags else None,
    }
