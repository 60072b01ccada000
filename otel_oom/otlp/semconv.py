"""Names of our own attributes, events and metrics; ``registry.yaml`` defines each.

Names of OpenTelemetry's conventions are literals where they are set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

Value = str | int | float | bool | Sequence[str]
Attributes = dict[str, Value]

SCOPE: Final = "otel_oom"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

EVENT_KILL: Final = "oom.kill"
EVENT_MISSED: Final = "oom.missed"
EVENT_NO_VICTIM: Final = "oom.no_victim"
EVENT_PANIC: Final = "oom.panic"
EVENT_VICTIM_MARKED: Final = "oom.victim.marked"
EVENT_VICTIM_EXITED: Final = "oom.victim.exited"
EVENT_VICTIM_ALIVE: Final = "oom.victim.alive"
EVENT_REAPER: Final = "oom.reaper"
SPAN_KILL: Final = "oom.kill"

METRIC_KILLS: Final = "oom.kills"
METRIC_EVENT_CAPTURED: Final = "otel_oom.event.captured"
METRIC_EVENT_STORED: Final = "otel_oom.event.stored"
METRIC_EVENT_LOST: Final = "otel_oom.event.lost"
METRIC_RING_BUFFER_USAGE: Final = "otel_oom.ring_buffer.usage"
METRIC_RING_BUFFER_LIMIT: Final = "otel_oom.ring_buffer.limit"
METRIC_QUEUE_AGE: Final = "otel_oom.queue.age"
METRIC_QUEUE_DROPPED: Final = "otel_oom.queue.dropped"
METRIC_DEAD_LETTER_COUNT: Final = "otel_oom.dead_letter.count"
METRIC_DELIVERY_DURATION: Final = "otel_oom.delivery.duration"

SNAPSHOT_DELAY: Final = "oom.snapshot.delay"
SIGNAL: Final = "otel_oom.signal"

CAPTURE_SOURCE: Final = "oom.capture.source"
CAPTURE_HOOK: Final = "oom.capture.hook"
CAPTURE_RECOVERED: Final = "oom.capture.recovered"

DECISION_SOURCE: Final = "oom.decision.source"
DECISION_ORIGIN: Final = "oom.decision.origin"
DECISION_CONSTRAINT: Final = "oom.decision.constraint"
DECISION_POINTS: Final = "oom.decision.points"
DECISION_TOTAL_MEMORY: Final = "oom.decision.total_memory"
DECISION_MESSAGE: Final = "oom.decision.message"
DECISION_REPEAT_COUNT: Final = "oom.decision.repeat_count"

TIME_SOURCE: Final = "oom.time.source"
LOG_SOURCE: Final = "oom.log.source"
OUTCOME: Final = "oom.outcome"

SERVICE_SOURCE: Final = "oom.service.source"
SERVICE_CLAIMED: Final = "oom.service.claimed"
SERVICE_CLAIMS_DROPPED: Final = "oom.service.claims_dropped"

KILLER_NAME: Final = "oom.killer.name"
KILLER_SIGNAL: Final = "oom.killer.signal"
KILLER_REASON: Final = "oom.killer.reason"
KILLER_LIMIT: Final = "oom.killer.limit"
KILLER_PRESSURE: Final = "oom.killer.pressure"
KILLER_MEMCG_PATH: Final = "oom.killer.memcg.path"
KILLER_RULE: Final = "oom.killer.rule"

ADVICE: Final = "oom.advice"
INCIDENT_ID: Final = "oom.incident.id"

REQUEST_KERNEL_STACK: Final = "oom.request.kernel_stack"
REQUEST_ORDER: Final = "oom.request.order"
REQUEST_GFP_MASK: Final = "oom.request.gfp_mask"
REQUEST_GFP_FLAGS: Final = "oom.request.gfp_flags"
REQUEST_USER_STACK: Final = "oom.request.user_stack"
REQUEST_MEMORY_TYPE: Final = "oom.request.memory_type"
REQUEST_ENTRY_POINT: Final = "oom.request.entry_point"

MISSED_COUNT: Final = "oom.missed.count"
MISSED_KERNEL_COUNT: Final = "oom.missed.kernel_count"
MISSED_REASON: Final = "oom.missed.reason"
MISSED_UPPER_BOUND: Final = "oom.missed.upper_bound"

PANIC_MESSAGE: Final = "oom.panic.message"
PANIC_BOOT_ID: Final = "oom.panic.boot_id"

LIMIT_SCOPE: Final = "oom.limit.scope"
LIMIT_MEMCG_PATH: Final = "oom.limit.memcg.path"
LIMIT_MEMCG_ID: Final = "oom.limit.memcg.id"
LIMIT_MEMCG_LIMIT: Final = "oom.limit.memcg.limit"
LIMIT_MEMCG_USAGE: Final = "oom.limit.memcg.usage"
LIMIT_MEMCG_SWAP_LIMIT: Final = "oom.limit.memcg.swap_limit"
LIMIT_MEMCG_SWAP_USAGE: Final = "oom.limit.memcg.swap_usage"
LIMIT_SYSTEMD_UNIT: Final = "oom.limit.systemd.unit"
LIMIT_SYSTEMD_SETTING: Final = "oom.limit.systemd.setting"
LIMIT_SYSTEMD_FILE: Final = "oom.limit.systemd.file"
LIMIT_MEMCG_STAT: Final = "oom.limit.memcg.stat"
LIMIT_MEMCG_EVENTS: Final = "oom.limit.memcg.events"
LIMIT_MEMCG_PRESSURE: Final = "oom.limit.memcg.pressure"

HOST_MEMORY: Final = "oom.host.memory"
HOST_PRESSURE: Final = "oom.host.pressure"
HOST_SYSCTL_VM: Final = "oom.host.sysctl.vm"

TASKS_LARGEST: Final = "oom.tasks.largest"
TASKS_COUNT: Final = "oom.tasks.count"
TASKS_SKIPPED: Final = "oom.tasks.skipped"
TASKS_MEMCG_PATH: Final = "oom.tasks.memcg.path"
TASKS_DELAY: Final = "oom.tasks.delay"

VICTIM_COMM: Final = "oom.victim.comm"
VICTIM_GID: Final = "oom.victim.gid"
VICTIM_PID_NAMESPACE: Final = "oom.victim.pid_namespace"
VICTIM_MOUNT_NAMESPACE: Final = "oom.victim.mount_namespace"
VICTIM_SCORE_ADJ: Final = "oom.victim.score_adj"
VICTIM_SYSTEMD_UNIT: Final = "oom.victim.systemd.unit"
VICTIM_SYSTEMD_SLICE: Final = "oom.victim.systemd.slice"
VICTIM_SYSTEMD_USER_UNIT: Final = "oom.victim.systemd.user_unit"
VICTIM_POD_QOS_CLASS: Final = "oom.victim.pod.qos_class"
VICTIM_EXITED: Final = "oom.victim.exited"
VICTIM_EXIT_SIGNAL: Final = "oom.victim.exit.signal"
VICTIM_EXIT_DELAY: Final = "oom.victim.exit.delay"
VICTIM_STATE: Final = "oom.victim.state"
VICTIM_MEMORY_REAPED: Final = "oom.victim.memory.reaped"
VICTIM_MEMORY_TOTAL_VM: Final = "oom.victim.memory.total_vm"
VICTIM_MEMORY_RESIDENT: Final = "oom.victim.memory.resident"
VICTIM_MEMORY_ANON: Final = "oom.victim.memory.anon"
VICTIM_MEMORY_FILE: Final = "oom.victim.memory.file"
VICTIM_MEMORY_SHMEM: Final = "oom.victim.memory.shmem"
VICTIM_MEMORY_SWAP: Final = "oom.victim.memory.swap"
VICTIM_MEMORY_PAGE_TABLES: Final = "oom.victim.memory.page_tables"
VICTIM_MEMCG_PATH: Final = "oom.victim.memcg.path"
VICTIM_MEMCG_ID: Final = "oom.victim.memcg.id"
VICTIM_MEMCG_LIMIT: Final = "oom.victim.memcg.limit"
VICTIM_MEMCG_USAGE: Final = "oom.victim.memcg.usage"
VICTIM_MEMCG_SWAP_LIMIT: Final = "oom.victim.memcg.swap_limit"
VICTIM_MEMCG_SWAP_USAGE: Final = "oom.victim.memcg.swap_usage"
VICTIM_MEMCG_STAT: Final = "oom.victim.memcg.stat"
VICTIM_MEMCG_EVENTS: Final = "oom.victim.memcg.events"
VICTIM_MEMCG_PRESSURE: Final = "oom.victim.memcg.pressure"

REAPER_STAGE: Final = "oom.reaper.stage"
REAPER_RESIDENT: Final = "oom.reaper.resident"

TRIGGER_PID: Final = "oom.trigger.pid"
TRIGGER_TID: Final = "oom.trigger.tid"
TRIGGER_COMM: Final = "oom.trigger.comm"
TRIGGER_UID: Final = "oom.trigger.uid"
TRIGGER_MEMCG_PATH: Final = "oom.trigger.memcg.path"
TRIGGER_MEMCG_ID: Final = "oom.trigger.memcg.id"
TRIGGER_SYSTEMD_UNIT: Final = "oom.trigger.systemd.unit"
TRIGGER_SYSTEMD_USER_UNIT: Final = "oom.trigger.systemd.user_unit"
TRIGGER_POD_UID: Final = "oom.trigger.pod.uid"
TRIGGER_CONTAINER_ID: Final = "oom.trigger.container.id"
TRIGGER_CONTAINER_NAME: Final = "oom.trigger.container.name"

CONTAINER_HOST_ID: Final = "oom.container.host.id"
CONTAINER_HOST_NAME: Final = "oom.container.host.name"

ENRICHMENT_ERROR: Final = "oom.enrichment.error"
EVENT_KIND: Final = "otel_oom.event.kind"
