"""What the store hands out and takes."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from otel_oom.model.events import ReaperStep, StoredEvent, VictimExit
from otel_oom.model.snapshot import Snapshot


class PendingEvent(Struct, frozen=True):
    """An event that still owes its log, its span or both.

    ``waited`` is whether its victim has had its time to exit.
    """

    id: int
    event: StoredEvent
    snapshot: Snapshot
    exit: VictimExit | None
    reaper_steps: tuple[ReaperStep, ...]
    exit_overdue: bool
    stored_unix_ns: int
    log_queued: bool
    span_queued: bool


class OutboxEntry(Struct, frozen=True):
    """What a journal row was translated to: its log, its span or both, as OTLP bytes.

    ``counts`` are counters of no boot to raise in the same step.
    """

    event_id: int
    uid: str
    log: bytes | None
    span: bytes | None
    counts: Mapping[str, int] = {}

    @property
    def payloads(self) -> dict[str, bytes | None]:
        """The bytes by their signal."""
        return {"logs": self.log, "traces": self.span}


class Message(Struct, frozen=True):
    """Encoded OTLP that waits to be sent: one signal of one kill."""

    id: int
    uid: str
    payload: bytes


class Rejection(Struct, frozen=True):
    """Who will not take messages, and why.

    ``endpoint`` holds no secret. ``ambiguous``: it took some of them, and did not say which.
    """

    endpoint: str
    reason: str
    ambiguous: bool = False


class DeadLetter(Struct, frozen=True):
    """A refused message, without its payload of ``size`` bytes."""

    id: int
    uid: str
    signal: str
    size: int
    endpoint: str
    reason: str
    ambiguous: bool
    rejected_unix_ns: int


class Backlog(Struct, frozen=True):
    """What waits to be sent of one signal; ``oldest_unix_ns`` is when its oldest was queued."""

    signal: str
    count: int
    size: int
    oldest_unix_ns: int


class HistoryRow(Struct, frozen=True):
    """An event of the journal, whatever has become of it, and what it was told as.

    ``event``, ``snapshot``, ``exit`` and ``reaper`` are JSON, as in the journal; ``undecodable`` is
    why the version that wrote the rest could not read them. ``log`` and ``span`` are the OTLP
    requests that it was told as; ``None`` for what is still owed, and where that is not kept.
    ``log_fate`` and ``span_fate`` are what has become of them: ``owed``, ``waiting``, ``taken``,
    ``refused by …`` with the reason, or ``None`` where there is none to tell.
    """

    id: int
    uid: str
    kind: str
    event: str
    snapshot: str
    exit: str | None
    reaper_steps: str
    stored_unix_ns: int
    undecodable_reason: str | None
    log: bytes | None
    span: bytes | None
    log_status: str | None
    span_status: str | None


class BootTally(Struct, frozen=True):
    """What is known of one boot's count.

    ``told`` are the kills in the store that the kernel counts, ``again`` how often it counted the
    first of a group twice, ``missed`` what was told as missed; ``sequence`` is the line of the
    kernel's log up to which all this is settled, ``None`` before it was settled at all.
    """

    recorded: int = 0
    double_counted: int = 0
    missed: int = 0
    log_sequence: int | None = None

    @property
    def total(self) -> int:
        """How much of the kernel's count is accounted for."""
        return self.recorded + self.double_counted + self.missed


class StoredKill(Struct, frozen=True):
    """A kill in the store, as far as it can be known again in the log."""

    tgid: int
    tid: int | None
    comm: str | None
    boottime_ns: int
    log_sequence: int | None
    """The number of its line, if the log is where it comes from."""
