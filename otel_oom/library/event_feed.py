"""The events of this host: captured in a thread, and enriched in that of the reader."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from msgspec.structs import replace

from otel_oom.agent.enricher import EXIT_WAIT_S, DueEvent, EventEnricher, until_due_s
from otel_oom.agent.event_processing import EventProcessing
from otel_oom.agent.repeat_counter import RepeatCounter
from otel_oom.config.library import LibraryConfig, read_library_config
from otel_oom.enrich.host import create_host, host_attributes
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.library.capture_thread import CaptureThread
from otel_oom.library.options import CaptureOptions
from otel_oom.linux import clock
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp.event import Event
from otel_oom.otlp.kill_counts import count_kills, count_memory
from otel_oom.store import OutboxEntry, PendingEvent, Store
from otel_oom.store.counters import EXCLUDED

_LOG = logging.getLogger(__name__)

_MAX_ROWS: Final = 16
_MAX_WAIT_S: Final = 3600.0
"""A longer wait than threads can have would be an error."""


class EventFeed:
    """Stored events, each until it is acknowledged. One thread at a time reads it."""

    def __init__(self, options: CaptureOptions) -> None:
        """Start to capture.

        Raises:
            CaptureError: kills can't be captured; the message says what is missing.
            StoreError: the state directory can't be used.
            ConfigError: an environment variable has an unusable value.
        """
        config = read_library_config(os.environ)
        self.owner_names = config.owner_names
        """The attributes by which kills are counted."""
        self._is_durable = options.state_dir is not None
        self._boot_id = clock.boot_id()
        self._pid = os.getpid()
        self._wake = threading.Event()
        with ExitStack() as stack:
            state_dir = options.state_dir
            if state_dir is None:
                state_dir = Path(mkdtemp(prefix="otel-oom-"))
                # Also at the end of a program that does not close it.
                stack.callback(weakref.finalize(self, _remove_folder, state_dir, self._pid))
            self._store = stack.enter_context(Store(state_dir, config.store_limits))
            containers = ContainerService(config.container_labels)
            stack.callback(containers.stop)
            containers.start()
            self._symbolizer = stack.enter_context(closing(UserSymbolizer()))
            self._enricher = self._create_enricher(config, containers)
            self._processing = EventProcessing(config.filters, Counter())
            self._capture = CaptureThread(self._store, containers, options, config, self._wake.set)
            self._capture.start()
            self._stack = stack.pop_all()

    def _create_enricher(
        self, config: LibraryConfig, containers: ContainerService
    ) -> EventEnricher:
        detected = {}
        if config.detectors:
            from otel_oom.enrich.resource_detectors import detect_resource  # noqa: PLC0415  rarely needed

            detected = detect_resource(config.detectors)
        host = create_host(
            host_attributes(),
            detected,
            config.resource,
            self._symbolizer,
            claimed_identity=config.claimed_identity,
        )
        return EventEnricher(host, containers, self._boot_id, RepeatCounter(self._store))

    def due_events(self) -> Iterator[DueEvent]:
        """Yield the events that are due; each is acknowledged when the next one is requested.

        Raises:
            sqlite3.Error: the disk fails.
            Exception: capture has ended, for the reason of the exception.
        """
        while rows := self._pending_rows():
            for row in rows:
                due = self._enrich(row)
                if due is not None:
                    yield due
                    self._acknowledge(due)
        if self._capture.error is not None:
            raise self._capture.error

    def process(self, event: Event) -> Event | None:
        """Return what the user's variables make of an event: the first of its processors."""
        processed = self._processing.process(event)
        return processed if isinstance(processed, Event) else None

    def wait(self) -> None:
        """Wait until an event may be due, or for :meth:`wake`."""
        wait_s = min(self._store.maintain(), until_due_s(self._store, self._boot_id), _MAX_WAIT_S)
        self._wake.wait(wait_s)
        self._wake.clear()

    def wake(self) -> None:
        """End a wait; safe to call from any thread and from a signal handler."""
        self._wake.set()

    @property
    def is_inherited(self) -> bool:
        """Return whether this is a forked child: only its parent captures, and may stop."""
        return os.getpid() != self._pid

    def stop_capture(self) -> None:
        """Record what has happened so far, and capture no more."""
        self._capture.stop()

    def close(self) -> None:
        """Stop, and release everything; nothing can be read afterwards."""
        self._capture.stop()
        self._stack.close()

    def _pending_rows(self) -> list[PendingEvent]:
        # What is not on a disk does not wait for an exit at the end.
        is_last = self._capture.is_stopped and not self._is_durable
        wait_ns = 0 if is_last else int(EXIT_WAIT_S * NS_PER_S)
        deadline_ns = clock.boottime_ns() - wait_ns
        return self._store.pending_events(
            _MAX_ROWS, self._boot_id, deadline_ns, self._enricher.decoded
        )

    def _enrich(self, row: PendingEvent) -> DueEvent | None:
        try:
            due = self._enricher.enrich(row)
            return replace(due, excluder=self._processing.find_exclusion(due.enriched))
        except MemoryError:
            # Of the program, not of this event.
            raise
        except Exception as error:  # noqa: BLE001  one row must not block all others
            _LOG.exception("Event %d can't be enriched; it is kept on disk", row.id)
            self._store.quarantine({row.id: f"{type(error).__name__}: {error}"})
            return None

    def _acknowledge(self, due: DueEvent) -> None:
        excluded = {EXCLUDED + due.excluder: 1} if due.excluder else {}
        is_first = "logs" in due.signals
        entry = OutboxEntry(
            due.row.id,
            due.row.event.uid,
            None,
            None,
            counts=count_memory(due.enriched) | excluded if is_first else {},
            kills=count_kills(due.enriched) if is_first else None,
            repeat=due.repeat,
            delivered=due.signals,
            excluded=due.signals if due.excluder else frozenset(),
        )
        self._store.enqueue([entry])


def _remove_folder(path: Path, pid: int) -> None:
    """Remove a folder of the process ``pid``; a child that was forked has this to do as well."""
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)
