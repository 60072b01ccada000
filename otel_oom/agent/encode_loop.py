"""Encode the pending events row by row: none delays the others for long, or ends them all."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from otel_oom.agent.encoder import EventEncoder
from otel_oom.agent.encoding_mark import EncodingMark
from otel_oom.agent.enricher import EXIT_WAIT_S, MAX_KEPT, until_due_s
from otel_oom.agent.worker import Liveness
from otel_oom.linux import clock
from otel_oom.model.events import UserspaceKill
from otel_oom.model.units import NS_PER_S
from otel_oom.store import OutboxEntry, PendingEvent, Store

_LOG = logging.getLogger(__name__)

_MAX_ROWS: Final = 32
_FLUSH_S: Final = 0.25
"""Encoded events, and events that are stored meanwhile, do not wait longer for a batch."""
_SPAN_DELAY_S: Final = 0.003
"""A request to a local receiver takes less."""
_MAX_DEATHS: Final = 5
"""A process may also be killed by others, and at any time."""


class EncodeLoop:
    """Encoder of all pending events of a store, in the thread of ``liveness``.

    An event in whose encoding the process ended is encoded without enrichment. If that ends the
    process too, again and again, it is quarantined.
    """

    def __init__(
        self,
        store: Store,
        encoder: EventEncoder,
        liveness: Liveness,
        mark: EncodingMark,
        boot_id: str,
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._liveness = liveness
        self._mark = mark
        self._fatal = mark.marked
        self._boot_id = boot_id
        self._spans_at = 0.0
        """The monotonic time before which spans alone are not encoded."""

    def encode_pending(
        self,
        stop: threading.Event,
        wake: threading.Event,
        notify: Callable[[Mapping[str, int]], None],
    ) -> None:
        """Move all pending events to the outbox, until ``stop`` is set.

        ``wake`` is set when there are new events. ``notify`` gets new messages by signal.
        """
        while not stop.is_set():
            deadline_ns = clock.boottime_ns() - int(EXIT_WAIT_S * NS_PER_S)
            self._liveness.begin()
            rows = self._store.pending_events(
                _MAX_ROWS, self._boot_id, deadline_ns, self._encoder.decoded
            )
            if not rows:
                return
            if len(rows) <= MAX_KEPT:
                logs = [self._without_span(row) for row in rows if not row.log_queued]
                if not logs and self._wait_for_logs(wake):
                    continue
                rows = logs or rows
            self._encode_rows(rows, stop, notify)

    def _without_span(self, row: PendingEvent) -> PendingEvent:
        """Hide the end of a victim whose log event is due, which does not wait for the span.

        The log event of a userspace kill says whether the victim's end verifies it.
        """
        is_fatal = self._fatal and self._fatal.uid == row.event.uid
        is_verified = isinstance(row.event, UserspaceKill)
        return row if is_fatal or is_verified else replace(row, exit=None, exit_overdue=False)

    def _wait_for_logs(self, wake: threading.Event) -> bool:
        """Let the last log events be sent before spans are encoded; return if events came.

        The threads that send have the interpreter's lock meanwhile.
        """
        wake.clear()
        return wake.wait(max(0.0, self._spans_at - time.monotonic()))

    def until_due_s(self) -> float:
        """Return the seconds until a span stops waiting for its victim's exit."""
        return until_due_s(self._store, self._boot_id)

    def _encode_rows(
        self,
        rows: Sequence[PendingEvent],
        stop: threading.Event,
        notify: Callable[[Mapping[str, int]], None],
    ) -> None:
        """Encode some of the rows: a fresh event of another holder has its turn after them."""
        entries: list[OutboxEntry] = []
        flush_at = time.monotonic() + _FLUSH_S
        for row in rows:
            self._liveness.begin()
            entry = self._encode(row)
            if entry is not None:
                entries.append(entry)
            if stop.is_set() or time.monotonic() > flush_at:
                break
        self._liveness.begin()
        self._store.enqueue(entries)
        self._spans_at = time.monotonic() + _SPAN_DELAY_S
        notify(Counter(signal for entry in entries for _, signal, _ in entry.messages))

    def _encode(self, row: PendingEvent) -> OutboxEntry | None:
        deaths = 0
        if self._fatal and self._fatal.uid == row.event.uid:
            deaths = self._fatal.deaths + 1
            self._fatal = None
            _LOG.error(
                "Event %d is sent without enrichment: the agent ended in it: times=%d",
                row.id,
                deaths,
            )
        if deaths > _MAX_DEATHS:
            self._store.quarantine({row.id: f"the agent ended {deaths} times in its encoding"})
            self._mark.clear()
            return None
        self._mark.set(row.event.uid, deaths)
        entry = None
        try:
            entry = self._encoder.encode(row, plain=deaths > 0)
        except MemoryError:
            # The thread starts again, with the mark.
            self._mark.set(row.event.uid, 0)
            raise
        except Exception as error:  # noqa: BLE001  one row must not block all others
            _LOG.exception("Event %d can't be encoded; it is kept on disk", row.id)
            self._store.quarantine({row.id: f"{type(error).__name__}: {error}"})
        self._mark.clear()
        return entry
