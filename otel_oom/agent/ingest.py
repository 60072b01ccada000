"""Bring events from the sources to the disk: the loop that must not wait.

Each event is stored and synced before the kernel's buffer releases it. The other half is
:mod:`otel_oom.agent.delivery`, which may be slow.
"""

from __future__ import annotations

import logging
import selectors
import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Final

from otel_oom.agent.reconciler import EVERY_S, SOON_S, Reconciler
from otel_oom.agent.recorder import EventRecorder
from otel_oom.agent.stats import Stats
from otel_oom.agent.turn_probe import TurnProbe
from otel_oom.agent.watchdog import Watchdog
from otel_oom.capture.source import SourceSet, SupportsMarks
from otel_oom.linux.kill_count import read_kill_count
from otel_oom.model.events import CapturedEvent
from otel_oom.model.text import quote_text
from otel_oom.store import Store, StoreError

_LOG = logging.getLogger(__name__)

_STORE_RETRY_S: Final = 1.0
_MAX_LOGGED_CGROUPS: Final = 8


class IngestLoop:
    """The loop of the capturing thread."""

    def __init__(  # noqa: PLR0913  each is named at the call
        self,
        sources: SourceSet,
        store: Store,
        recorder: EventRecorder,
        stats: Stats,
        watchdog: Watchdog,
        *,
        on_event: Callable[[], None],
        history: bool,
    ) -> None:
        """Drain ``sources`` into ``recorder``; call ``on_event`` after each event.

        The sources are attached already. ``history`` is whether to record the kills of this boot
        from before the first start.
        """
        self._source = sources.kernel
        self._sources = sources
        self._recorder = recorder
        self._stats = stats
        self._watchdog = watchdog
        self._on_event = on_event
        self.probe = TurnProbe()
        """Answered at each turn of the loop, and at each event."""
        self.store_error: str | None = None
        """Why kills can't be stored now."""
        self._reconciler = Reconciler(
            store,
            drain=lambda: self._source.drain(self._handle),
            record=self._record_recovered,
            marks=self._source.read_marks if isinstance(self._source, SupportsMarks) else None,
            history=history,
        )
        self._compare_at = time.monotonic()
        self._sync = store.delayed_sync

    def loop(self, stop_fd: int) -> None:
        """Drain the sources whenever they are readable, until ``stop_fd`` is."""
        with selectors.DefaultSelector() as selector:
            selector.register(stop_fd, selectors.EVENT_READ)
            selector.register(self.probe, selectors.EVENT_READ)
            descriptors = [source.fileno() for source in self._sources.all]
            for descriptor in descriptors:
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                self._drain()
                self._note_turn()
                if self.store_error:
                    # The sources stay readable: wait for the signal or the next try only.
                    for descriptor in descriptors:
                        selector.unregister(descriptor)
                    ready = selector.select(min(_STORE_RETRY_S, self._watchdog.wait_s))
                    for descriptor in descriptors:
                        selector.register(descriptor, selectors.EVENT_READ)
                else:
                    compare_s = max(0.0, self._compare_at - time.monotonic())
                    ready = selector.select(
                        min(compare_s, self._watchdog.wait_s, self._sync.wait_s)
                    )
                if any(key.fd == stop_fd for key, _ in ready):
                    return

    def finish(self) -> None:
        """Drain the sources a last time, before they are detached."""
        self._drain()
        if self.store_error:
            _LOG.error(
                "Store still fails: kills in the kernel's buffer %s",
                "stay there for the next start" if self._source.pinned else "are lost",
            )

    def _drain(self) -> None:
        self._stats.observe_buffer()
        try:
            self._drain_and_compare()
        except (sqlite3.Error, StoreError, MemoryError) as error:
            # SQLite raises MemoryError where an allocation fails.
            if not self.store_error:
                _LOG.error(
                    "Cannot store kills (%s): retrying every %.0f s; they wait in the kernel's "
                    "buffer",
                    error,
                    _STORE_RETRY_S,
                )
            self.store_error = f"kills can't be stored: {error}"
            return
        if self.store_error:
            _LOG.info("Storing kills again")
        self.store_error = None
        self._report_lost_events()

    def _drain_and_compare(self) -> None:
        """Drain the sources; now and then compare the store with the kernel's own count."""
        due = time.monotonic() >= self._compare_at
        count = read_kill_count() if due else None
        drained = self._source.drain(self._handle)
        if due:
            again = self._reconciler.compare(count)
            self._compare_at = time.monotonic() + (SOON_S if again else EVERY_S)
        elif drained:
            self._compare_at = min(self._compare_at, time.monotonic() + SOON_S)
        # After the kernel's source: these read logs, which keep their entries meanwhile.
        for source in self._sources.others:
            try:
                source.drain(self._handle)
            except (sqlite3.Error, StoreError, MemoryError):
                raise
            except Exception:  # noqa: BLE001  one entry of a log must not end the capture of kills
                _LOG.exception("Source %s: an entry was dropped", source.name)
        self._sync.sync_if_due()

    def _record_recovered(self, event: CapturedEvent) -> None:
        self._note_turn()
        self._recorder.record_recovered(event)
        self._on_event()

    def _handle(self, event: CapturedEvent) -> None:
        # In a storm of kills one drain lasts as long as the storm.
        self._note_turn()
        self._recorder.record(event)
        self._on_event()

    def _note_turn(self) -> None:
        self._watchdog.tick()
        self.probe.answer()

    def _report_lost_events(self) -> None:
        lost = self._source.lost_events()
        if lost == self._stats.lost:
            return
        if lost.victims != self._stats.lost.victims:
            self._reconciler.buffer_was_full()
        _LOG.error(
            "Lost events since the last run: dropped (ring buffer full) kills=%d exits=%d; "
            "undecodable records=%d; overwritten log lines=%d",
            lost.victims,
            lost.exits,
            lost.undecodable,
            lost.log_lines,
        )
        if lost.victims_by_cgroup and lost.victims != self._stats.lost.victims:
            _LOG.error(
                "Lost kills by cgroup: %s",
                ", ".join(
                    f"{quote_text(name) if name else 'unknown'}={count}"
                    for name, count in _largest(lost.victims_by_cgroup)
                ),
            )
        self._stats.lost = lost


def _largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])[:_MAX_LOGGED_CGROUPS]
