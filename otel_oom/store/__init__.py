"""What is on disk: the journal of kills, the outbox of OTLP bytes, the dead letters."""

from otel_oom.config.store import Bounds, BoundsError
from otel_oom.store.recovery.salvage import Aside
from otel_oom.store.state_dir import StoreError
from otel_oom.store.store import Store
from otel_oom.store.types import (
    Backlog,
    DeadLetter,
    Encoded,
    HistoryRow,
    JournalRow,
    Message,
    Refusal,
)

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
