"""Encode the pending events row by row: none delays the others for long, or ends them all."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from otel_oom.agent.encoder import EventEncoder
from otel_oom.agent.encoding_mark import EncodingMark
from otel_oom.agent.worker import Liveness
from otel_oom.linux import clock
from otel_oom.model.units import NS_PER_S
from otel_oom.store import OutboxEntry, PendingEvent, Store

_LOG = logging.getLogger(__name__)

_MAX_ROWS: Final = 128
_FLUSH_S: Final = 0.25
"""Encoded events, and events that are stored meanwhile, do not wait longer for a batch."""
_EXIT_WAIT_S: Final = 10.0
"""How long a span waits for its victim to exit."""
_MAX_DEATHS: Final = 5
"""A process may also be killed by others, and at any time."""
_DUE_S: Final = 0.02
"""A span is due this much later: the clocks of two threads differ by less."""


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

    def encode_pending(
        self, stop: threading.Event, notify: Callable[[Collection[str]], None]
    ) -> None:
        """Move all pending events to the outbox; ``notify`` gets the signals of new messages."""
        while not stop.is_set():
            deadline_ns = clock.boottime_ns() - int(_EXIT_WAIT_S * NS_PER_S)
            self._liveness.begin()
            rows = self._store.pending_events(
                _MAX_ROWS, self._boot_id, deadline_ns, self._encoder.decoded
            )
            if not rows:
                return
            self._encode_rows(rows, stop, notify)

    def until_due_s(self) -> float:
        """Return the seconds until a span stops waiting for its victim's exit."""
        oldest_ns = self._store.oldest_pending_boottime_ns(self._boot_id)
        if oldest_ns is None:
            return math.inf
        return max(0.0, (oldest_ns - clock.boottime_ns()) / NS_PER_S + _EXIT_WAIT_S) + _DUE_S

    def _encode_rows(
        self,
        rows: Sequence[PendingEvent],
        stop: threading.Event,
        notify: Callable[[Collection[str]], None],
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
        notify({signal for entry in entries for signal in entry.payloads})

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
