"""What is on disk: the journal of kills, the outbox of OTLP bytes, the dead letters."""

from otel_oom.store.aside import Aside
from otel_oom.store.bounds import Bounds, BoundsError
from otel_oom.store.folder import StoreError
from otel_oom.store.rows import (
    Backlog,
    DeadLetter,
    Encoded,
    HistoryRow,
    JournalRow,
    Message,
    Refusal,
)
from otel_oom.store.store import Store

__all__ = [
    "Aside",
    "Backlog",
    "Bounds",
    "BoundsError",
    "DeadLetter",
    "Encoded",
    "HistoryRow",
    "JournalRow",
    "Message",
    "Refusal",
    "Store",
    "StoreError",
]
