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

CAPTURE_SOURCE: Final = "oom.capture.source"
CAPTURE_HOOK: Final = "oom.capture.hook"

OUTCOME: Final = "oom.outcome"
INCIDENT_ID: Final = "oom.incident.id"
DECISION_BY: Final = "oom.decision.by"
DECISION_STACK: Final = "oom.decision.stack"
REQUEST_MEMORY: Final = "oom.request.memory"
REQUEST_ENTRY: Final = "oom.request.entry"

VICTIM_COMM: Final = "oom.victim.comm"
VICTIM_GID: Final = "oom.victim.gid"
VICTIM_PID_NS: Final = "oom.victim.pid_namespace"
VICTIM_MNT_NS: Final = "oom.victim.mount_namespace"
VICTIM_SCORE_ADJ: Final = "oom.victim.score_adj"
VICTIM_EXITED: Final = "oom.victim.exited"
VICTIM_EXIT_SIGNAL: Final = "oom.victim.exit.signal"

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
