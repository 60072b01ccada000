"""The store on disk: events, the outbox of OTLP messages, dead letters, counters."""

from otel_oom.config.store import StoreLimits
from otel_oom.store.recovery.salvage import QuarantinedDatabase
from otel_oom.store.state_dir import StoreError
from otel_oom.store.store import Store
from otel_oom.store.types import (
    Backlog,
    DeadLetter,
    HistoryRow,
    Message,
    OutboxEntry,
    PendingEvent,
    Rejection,
)

__all__ = [
    "Backlog",
    "DeadLetter",
    "HistoryRow",
    "Message",
    "OutboxEntry",
    "PendingEvent",
    "QuarantinedDatabase",
    "Rejection",
    "Store",
    "StoreError",
    "StoreLimits",
]
