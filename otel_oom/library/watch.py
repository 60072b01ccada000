"""``otel_oom.watch``: the events of this host as an iterator."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Self

from otel_oom.agent.enricher import DueEvent
from otel_oom.library.event_feed import EventFeed
from otel_oom.library.options import CaptureOptions
from otel_oom.otlp.event import Event, Processor, build_end_event, build_event, process_event


class Watch(Iterator[Event]):
    """The events of this host, each once it is complete: a kill after its victim's exit.

    A kill whose victim does not exit is yielded after 10 s. Each event is one log record of the
    agent, so the victim's end follows its kill. A context manager; :meth:`close` ends the iteration
    from any thread, and from a signal handler.
    """

    def __init__(self, options: CaptureOptions, processors: Iterable[Processor] = ()) -> None:
        """Start to capture; raises as :class:`.EventFeed`."""
        self._feed = EventFeed(options)
        self._processors = (self._feed.process, *processors)
        self._is_closed = threading.Event()
        self._reading = threading.Lock()
        self._events = self._read_events()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> Event:
        with self._reading:
            try:
                return next(self._events)
            finally:
                if self._is_closed.is_set():
                    self._release()

    def close(self) -> None:
        """End the iteration and the capture. An event that was yielded last is not acknowledged."""
        if self._feed.is_inherited:
            return
        self._is_closed.set()
        self._feed.wake()
        # A reader that waits releases everything itself.
        if self._reading.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._reading.release()

    def _release(self) -> None:
        self._events.close()
        self._feed.close()

    def _read_events(self) -> Generator[Event, None, None]:
        while not self._is_closed.is_set():
            for due in self._feed.due_events():
                if due.is_complete and not due.excluder:
                    yield from self._process(due)
                if self._is_closed.is_set():
                    return
            self._feed.wait()

    def _process(self, due: DueEvent) -> Iterator[Event]:
        end = build_end_event(due.enriched) if "traces" in due.signals else None
        for event in (build_event(due.enriched), end):
            processed = process_event(event, self._processors) if event else None
            if processed is not None:
                yield processed


def watch(
    *,
    state_dir: str | os.PathLike[str] | None = None,
    source: str = "auto",
    history: bool = False,
    command_line: bool = False,
    processors: Iterable[Processor] = (),
) -> Watch:
    """Capture the OOM kills of this host, and return an iterator over enriched events.

    It waits for the next event without end. An event is acknowledged when the next one is
    requested: with a ``state_dir``, one that is not acknowledged comes again at the next start.

    Args:
        state_dir: directory for events; without one, nothing outlives the iterator.
        source: how kills are captured, as with ``otel-oom run --source``.
        history: also yield kills of this boot from before the first start.
        command_line: record the victim's command line, with secrets redacted.
        processors: change, redact or drop events before they are yielded.

    Raises:
        CaptureError: kills can't be captured; the message says what is missing.
        StoreError: ``state_dir`` can't be used.
        ConfigError: an environment variable has an unusable value.
    """
    folder = None if state_dir is None else Path(state_dir)
    return Watch(CaptureOptions(folder, source, history, command_line), processors)
