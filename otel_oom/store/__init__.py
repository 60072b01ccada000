"""What is on disk: the journal of kills, the outbox of OTLP bytes, the dead letters."""

from otel_oom.store.aside import Aside
from otel_oom.store.bounds import Bounds, BoundsError
from otel_oom.store.folder import StoreError
from otel_oom.store.rows import Encoded, JournalRow, Message
from otel_oom.store.store import Store

__all__ = [
    "Aside",
    "Bounds",
    "BoundsError",
    "Encoded",
    "JournalRow",
    "Message",
    "Store",
    "StoreError",
]
