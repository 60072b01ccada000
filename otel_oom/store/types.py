"""Values that go into the store and come out of it, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, TypeVar, get_args

import msgspec
from msgspec import Struct

from otel_oom.model.events import ReaperStep, StoredEvent, VictimExit
from otel_oom.model.snapshot import Snapshot

_T = TypeVar("_T")

_TYPES: Final[dict[str, type[StoredEvent]]] = {type_.kind: type_ for type_ in get_args(StoredEvent)}


class RepeatedKill(Struct, frozen=True):
    """The place of a kill among those of its victim: its number, and the time of the first."""

    count: int
    first_unix_ns: int


class Repeat(Struct, frozen=True):
    """The kills of one victim, by its name ``key``, that follow each other, up to one of them.

    A group killed at once counts once: ``incidents`` are the last ones. Without a ``key`` it is not
    stored: it is older than those that are.
    """

    key: str
    count: int
    first_unix_ns: int
    last_unix_ns: int
    incidents: tuple[str, ...]

    @property
    def place(self) -> RepeatedKill:
        """The place of that kill."""
        return RepeatedKill(self.count, self.first_unix_ns)


class PendingEvent(Struct, frozen=True):
    """An event whose log, span or both are not queued yet.

    ``exit_overdue``: its victim has had its time to exit. ``repeat`` is known once its log is
    queued.
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
    repeat: RepeatedKill | None = None


SKIPPED: Final = 2
"""In place of 1 in ``log_queued`` or ``span_queued``: the signal is not sent."""

EXCLUDED: Final = 3
"""Likewise: a filter or a processor excluded the event."""


END_SUFFIX: Final = "/end"
"""Behind the uid of a kill: the key of the message about its victim's end in the outbox."""


class KillCount(Struct, frozen=True):
    """Kills that count in the series ``label``, or beyond the limit in ``overflow_label``.

    Both are JSON. A series without an ``overflow_label`` has no limit. ``last_unix_ns`` is the time
    of the last kill, if it is known.
    """

    label: str
    overflow_label: str = ""
    count: int = 1
    last_unix_ns: int | None = None


class OutboxEntry(Struct, frozen=True):
    """An encoded event: its log, its span or both, as OTLP bytes.

    ``end_log`` is the log of the victim's end, which is queued along with the span. ``counts`` are
    counters of no boot, raised in the same transaction, and so is ``kills``. ``skipped`` are
    signals that are not sent, ``delivered`` those that were, without the outbox, and ``excluded``
    those that a filter or processor excluded: the event is done with them.
    """

    event_id: int
    uid: str
    log: bytes | None
    span: bytes | None
    counts: Mapping[str, int] = {}
    skipped: frozenset[str] = frozenset()
    end_log: bytes | None = None
    delivered: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    kills: KillCount | None = None
    repeat: Repeat | None = None

    @property
    def payloads(self) -> dict[str, bytes]:
        """The bytes by their signal."""
        payloads = {"logs": self.log, "traces": self.span}
        return {signal: payload for signal, payload in payloads.items() if payload is not None}

    @property
    def messages(self) -> list[tuple[str, str, bytes]]:
        """Key, signal and bytes of each message for the outbox."""
        messages = [(self.uid, signal, payload) for signal, payload in self.payloads.items()]
        if self.end_log is not None:
            messages.append((self.uid + END_SUFFIX, "logs", self.end_log))
        return messages

    def queue_state(self, signal: str) -> int:
        """Return the value of ``log_queued`` or ``span_queued``: 0, 1, or one of the constants."""
        if signal in self.excluded:
            return EXCLUDED
        is_queued = signal in self.payloads or signal in self.delivered
        return SKIPPED if signal in self.skipped else int(is_queued)


class Message(Struct, frozen=True):
    """An OTLP request in the outbox: one signal of one event, which counts to ``holder``.

    It is the copy of one channel: see :mod:`otel_oom.model.channel`.
    """

    id: int
    uid: str
    payload: bytes
    channel: str = ""
    holder: str = ""


class Rejection(Struct, frozen=True):
    """The endpoint that rejected messages, without secrets, and its reason.

    ``ambiguous``: it accepted some of them and did not say which.
    """

    endpoint: str
    reason: str
    ambiguous: bool = False


class DeadLetter(Struct, frozen=True):
    """A rejected message, without its payload of ``size`` bytes."""

    id: int
    uid: str
    channel: str
    size: int
    endpoint: str
    reason: str
    ambiguous: bool
    rejected_unix_ns: int


class Backlog(Struct, frozen=True):
    """Messages of one channel in the outbox: number, bytes, and when the oldest was queued."""

    channel: str
    count: int
    size: int
    oldest_unix_ns: int


class HistoryRow(Struct, frozen=True):
    """An event with its state of delivery, and the bytes that it was encoded as.

    ``event``, ``snapshot``, ``exit`` and ``reaper_steps`` are JSON. ``undecodable_reason`` is why
    a version could not decode or encode them. ``log`` and ``span`` are the OTLP requests; ``None``
    before they are queued, and where no copy is kept. ``log_status`` and ``span_status`` are
    ``pending``, ``queued``, ``delivered``, ``off`` (not sent), ``excluded`` or ``rejected by …``
    with the reason; ``None`` for an event without that signal.
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
    repeat: RepeatedKill | None = None


class BootTally(Struct, frozen=True):
    """The kills of one boot, by how they account for the kernel's count.

    ``recorded`` are stored kills that the kernel counts. ``double_counted`` is how often it counted
    the first kill of a group twice. ``missed`` are those reported as missed. ``log_sequence`` is
    the line of the kernel's log up to which this holds; ``None`` before the first reconciliation.
    """

    recorded: int = 0
    double_counted: int = 0
    missed: int = 0
    log_sequence: int | None = None

    @property
    def total(self) -> int:
        """The part of the kernel's count that is accounted for."""
        return self.recorded + self.double_counted + self.missed


class StoredKill(Struct, frozen=True):
    """The part of a stored kill that identifies it in the kernel's log.

    ``log_sequence`` is the number of its line, if it was captured from the log.
    """

    tgid: int
    tid: int | None
    comm: str | None
    boottime_ns: int
    log_sequence: int | None


def repeated_kill(count: int | None, first_unix_ns: int | None) -> RepeatedKill | None:
    """Return the place of a kill from its columns, which are set together."""
    if count is None or first_unix_ns is None:
        return None
    return RepeatedKill(count, first_unix_ns)


def encode(value: Struct) -> str:
    """Encode a value as JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        # UTF-8 has no lone surrogates: one in a hostile name must not cost the event.
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()


def decode(type_: type[_T], text: str | bytes) -> _T:
    """Decode JSON strictly by type; fields unknown to this version are ignored.

    Raises ValueError or RecursionError if it is damaged, or of another version.
    """
    return msgspec.json.decode(text, type=type_)


def decode_event(kind: str, text: str | bytes) -> StoredEvent:
    """Decode an event of ``kind``; raises as :func:`decode`."""
    type_ = _TYPES.get(kind)
    if type_ is None:
        raise ValueError(f"unknown kind {kind!r}")
    return decode(type_, text)
