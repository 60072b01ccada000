"""Attribute and event names of our own; ``registry.yaml`` defines each, a test compares them.

All that OpenTelemetry already names is used under its name, as a literal where it is set.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "otel_oom"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

EVENT_KILL: Final = "oom.kill"
SPAN_KILL: Final = "oom.kill"
EVENT_VICTIM_MARKED: Final = "oom.victim.marked"
EVENT_VICTIM_EXITED: Final = "oom.victim.exited"
EVENT_VICTIM_ALIVE: Final = "oom.victim.alive"
EVENT_REAPER: Final = "oom.reaper"
EVENT_NO_VICTIM: Final = "oom.no_victim"
EVENT_PANIC: Final = "oom.panic"
EVENT_MISSED: Final = "oom.missed"

CAPTURE_SOURCE: Final = "oom.capture.source"
CAPTURE_HOOK: Final = "oom.capture.hook"
CAPTURE_CONTEXT: Final = "oom.capture.context"
CAPTURE_LATE: Final = "oom.capture.late"

OUTCOME: Final = "oom.outcome"
INCIDENT_ID: Final = "oom.incident.id"
DECISION_BY: Final = "oom.decision.by"
DECISION_STACK: Final = "oom.decision.stack"
REQUEST_MEMORY: Final = "oom.request.memory"
DECISION_CONSTRAINT: Final = "oom.decision.constraint"
DECISION_POINTS: Final = "oom.decision.points"
DECISION_CAPACITY: Final = "oom.decision.capacity"
DECISION_MESSAGE: Final = "oom.decision.message"
DECISION_REPEATS: Final = "oom.decision.repeats"
REQUEST_ENTRY: Final = "oom.request.entry"
REQUEST_ORDER: Final = "oom.request.order"
REQUEST_GFP_MASK: Final = "oom.request.gfp_mask"
REQUEST_GFP_FLAGS: Final = "oom.request.gfp_flags"
REQUEST_USER_STACK: Final = "oom.request.user_stack"

PANIC_MESSAGE: Final = "oom.panic.message"
PANIC_BOOT_ID: Final = "oom.panic.boot_id"
PANIC_TIME_SOURCE: Final = "oom.panic.time_source"

LIMIT_SCOPE: Final = "oom.limit.scope"
LIMIT_MEMCG_PATH: Final = "oom.limit.memcg.path"
LIMIT_MEMCG_ID: Final = "oom.limit.memcg.id"
LIMIT_MEMCG_LIMIT: Final = "oom.limit.memcg.limit"
LIMIT_MEMCG_USAGE: Final = "oom.limit.memcg.usage"
LIMIT_MEMCG_SWAP_LIMIT: Final = "oom.limit.memcg.swap_limit"
LIMIT_MEMCG_SWAP_USAGE: Final = "oom.limit.memcg.swap_usage"

VICTIM_COMM: Final = "oom.victim.comm"
VICTIM_GID: Final = "oom.victim.gid"
VICTIM_PID_NS: Final = "oom.victim.pid_namespace"
VICTIM_MNT_NS: Final = "oom.victim.mount_namespace"
VICTIM_SCORE_ADJ: Final = "oom.victim.score_adj"
VICTIM_EXITED: Final = "oom.victim.exited"
VICTIM_EXIT_SIGNAL: Final = "oom.victim.exit.signal"
VICTIM_EXIT_AFTER: Final = "oom.victim.exit.after"
VICTIM_STATE: Final = "oom.victim.state"
VICTIM_REAPED: Final = "oom.victim.reaped"

REAPER_STAGE: Final = "oom.reaper.stage"
REAPER_RESIDENT: Final = "oom.reaper.resident"

MEMORY_TOTAL_VM: Final = "oom.victim.memory.total_vm"
MEMORY_ANON: Final = "oom.victim.memory.anon"
MEMORY_FILE: Final = "oom.victim.memory.file"
MEMORY_SHMEM: Final = "oom.victim.memory.shmem"
MEMORY_SWAP: Final = "oom.victim.memory.swap"
MEMORY_PAGE_TABLES: Final = "oom.victim.memory.page_tables"

MEMCG_PATH: Final = "oom.victim.memcg.path"
MEMCG_ID: Final = "oom.victim.memcg.id"
MEMCG_LIMIT: Final = "oom.victim.memcg.limit"
MEMCG_USAGE: Final = "oom.victim.memcg.usage"
MEMCG_SWAP_LIMIT: Final = "oom.victim.memcg.swap_limit"
MEMCG_SWAP_USAGE: Final = "oom.victim.memcg.swap_usage"

TRIGGER_PID: Final = "oom.trigger.pid"
TRIGGER_TID: Final = "oom.trigger.tid"
TRIGGER_COMM: Final = "oom.trigger.comm"
TRIGGER_UID: Final = "oom.trigger.uid"
TRIGGER_MEMCG_PATH: Final = "oom.trigger.memcg.path"
TRIGGER_MEMCG_ID: Final = "oom.trigger.memcg.id"

MISSED_COUNT: Final = "oom.missed.count"
MISSED_COUNTED: Final = "oom.missed.counted"
MISSED_REASON: Final = "oom.missed.reason"
MISSED_AT_MOST: Final = "oom.missed.at_most"

METRIC_KILLS: Final = "oom.kills"
METRIC_CAPTURED: Final = "otel_oom.event.captured"
METRIC_STORED: Final = "otel_oom.event.stored"
METRIC_LOST: Final = "otel_oom.event.lost"
METRIC_BUFFER_USAGE: Final = "otel_oom.ring_buffer.usage"
METRIC_BUFFER_LIMIT: Final = "otel_oom.ring_buffer.limit"
METRIC_QUEUE_AGE: Final = "otel_oom.queue.age"
METRIC_DROPPED: Final = "otel_oom.queue.dropped"
METRIC_DEAD_LETTERS: Final = "otel_oom.dead_letter.count"
METRIC_LAG: Final = "otel_oom.delivery.lag"

EVENT_KIND: Final = "otel_oom.event.kind"
SIGNAL: Final = "otel_oom.signal"
