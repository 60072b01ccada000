"""The event of a cgroup near its limit: attributes and sentence."""

from __future__ import annotations

from otel_oom.enrich.types import EnrichedNearLimit
from otel_oom.linux.systemd.units import find_owning_unit
from otel_oom.model.units import format_bytes
from otel_oom.otlp import entity_attributes as entities
from otel_oom.otlp import semconv
from otel_oom.otlp.body import location_phrase
from otel_oom.otlp.growth import limit_series_attributes
from otel_oom.otlp.semconv import Attributes
from otel_oom.otlp.snapshot_attributes import candidate_attributes, snapshot_attributes


def near_limit_attributes(enriched: EnrichedNearLimit) -> Attributes:
    """Return all known attributes."""
    event, setting = enriched.event, enriched.limit_setting
    return entities.drop_none(
        {
            "log.record.uid": event.uid,
            semconv.NEAR_LIMIT_THRESHOLD: event.threshold_percent,
            semconv.NEAR_LIMIT_WORKING_SET: event.working_set,
            **entities.memcg_attributes(entities.LIMIT_MEMCG, event.memcg, event.memcg_usage),
            semconv.LIMIT_SYSTEMD_UNIT: find_owning_unit(event.memcg.path),
            semconv.LIMIT_SYSTEMD_SETTING: setting.line if setting else None,
            semconv.LIMIT_SYSTEMD_FILE: str(setting.file) if setting else None,
            **entities.service_attributes(enriched.service),
            **snapshot_attributes(event, enriched.snapshot),
            **candidate_attributes(event, event.tasks, enriched.ranked_tasks),
            **limit_series_attributes(enriched.snapshot.usage_history, event),
            **entities.related_container_attributes(enriched.containers),
            semconv.CAPTURE_SOURCE: event.capture.source,
            semconv.CAPTURE_HOOK: event.capture.hook,
        }
    )


def near_limit_body(enriched: EnrichedNearLimit) -> str:
    """Return the cgroup, its memory in use and its limit, and the largest process."""
    event = enriched.event
    location = location_phrase(enriched.containers.victim, event.memcg.path)
    limit = event.memcg_usage.limit
    share = f" ({event.working_set * 100 // limit} %)" if limit else ""
    size = f" of {format_bytes(limit)}" if limit else ""
    sentence = (
        f"Memory is near its limit{location or f' in the cgroup {event.memcg.path}'}: "
        f"{format_bytes(event.working_set)}{share}{size} in use"
    )
    if enriched.ranked_tasks:
        task = enriched.ranked_tasks[0].task
        resident = format_bytes(task.resident)
        return f"{sentence}; the largest process is {task.comm} (pid {task.tgid}) with {resident}."
    return f"{sentence}."
