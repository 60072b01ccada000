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


class PendingEvent(Struct, frozen=True):
    """An event whose log, span or both are not queued yet.

    ``exit_overdue``: its victim has had its time to exit.
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
    """An encoded event: its log, its span or both, as OTLP bytes.

    ``counts`` are counters of no boot, raised in the same transaction.
    """

    event_id: int
    uid: str
    log: bytes | None
    span: bytes | None
    counts: Mapping[str, int] = {}

    @property
    def payloads(self) -> dict[str, bytes]:
        """The bytes by their signal."""
        payloads = {"logs": self.log, "traces": self.span}
        return {signal: payload for signal, payload in payloads.items() if payload is not None}


class Message(Struct, frozen=True):
    """An OTLP request in the outbox: one signal of one event, which counts to ``holder``."""

    id: int
    uid: str
    payload: bytes
    signal: str = ""
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
    signal: str
    size: int
    endpoint: str
    reason: str
    ambiguous: bool
    rejected_unix_ns: int


class Backlog(Struct, frozen=True):
    """Messages of one signal in the outbox: number, bytes, and when the oldest was queued."""

    signal: str
    count: int
    size: int
    oldest_unix_ns: int


class HistoryRow(Struct, frozen=True):
    """An event with its state of delivery, and the bytes that it was encoded as.

    ``event``, ``snapshot``, ``exit`` and ``reaper_steps`` are JSON. ``undecodable_reason`` is why
    a version could not decode or encode them. ``log`` and ``span`` are the OTLP requests; ``None``
    before they are queued, and where no copy is kept. ``log_status`` and ``span_status`` are
    ``pending``, ``queued``, ``delivered`` or ``rejected by …`` with the reason; ``None`` for an
    event without that signal.
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
