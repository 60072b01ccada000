"""Kills in the OpenTelemetry SDK of a program: each with the resource of its victim."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor

from otel_oom import __version__
from otel_oom.agent.enricher import DueEvent
from otel_oom.library.event_feed import EventFeed
from otel_oom.library.options import CaptureOptions
from otel_oom.otlp import semconv
from otel_oom.otlp.event import Event, Processor, build_end_event, build_event, process_event
from otel_oom.otlp.kill_counts import count_kills

__all__ = ["OomEvents"]

_LOG = logging.getLogger(__name__)

_RETRY_S: Final = 5.0
_STOP_S: Final = 10.0


class OomEvents:
    """The events of this host for providers of the program, from :meth:`start` to :meth:`stop`.

    A context manager. Log records and spans have the victim's resource, not that of the provider.
    A signal without a provider is not emitted.
    """

    def __init__(  # noqa: PLR0913  each is named at the call
        self,
        *,
        logger_provider: LoggerProvider | None = None,
        span_processors: Iterable[SpanProcessor] = (),
        meter_provider: MeterProvider | None = None,
        processors: Iterable[Processor] = (),
        state_dir: str | os.PathLike[str] | None = None,
        source: str = "auto",
        history: bool = False,
        command_line: bool = False,
    ) -> None:
        """Prepare.

        Args:
            logger_provider: gets a log record of each event at once.
            span_processors: get the span of each kill after its victim's exit.
            meter_provider: counts kills as ``oom.kills``.
            processors: change, redact or drop events before they are emitted.
            state_dir: as for :func:`otel_oom.watch`; so are the rest.
            source: how kills are captured.
            history: also emit kills of this boot from before the first start.
            command_line: record the victim's command line, with secrets redacted.
        """
        scope = (semconv.SCOPE, __version__, semconv.SCHEMA_URL)
        self._logger = logger_provider.get_logger(*scope) if logger_provider else None
        self._span_processors = tuple(span_processors)
        self._kills = None
        if meter_provider:
            meter = meter_provider.get_meter(*scope)
            self._kills = meter.create_counter(
                semconv.METRIC_KILLS, "{kill}", "OOM kills on this host, by outcome."
            )
        self._processors = tuple(processors)
        self._active_processors: tuple[Processor, ...] = ()
        self._owner_names: tuple[str, ...] = ()
        folder = None if state_dir is None else Path(state_dir)
        self._options = CaptureOptions(folder, source, history, command_line)
        self._feed: EventFeed | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Capture and emit in threads of its own; returns once kills are captured.

        Raises:
            CaptureError: kills can't be captured; the message says what is missing.
            StoreError: ``state_dir`` can't be used.
            ConfigError: an environment variable has an unusable value.
            RuntimeError: it is started already.
        """
        if self._feed is not None:
            raise RuntimeError("OomEvents is started already: stop it first.")
        self._feed = EventFeed(self._options)
        self._active_processors = (self._feed.process, *self._processors)
        self._owner_names = self._feed.owner_names
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._feed, self._stop), name="otel-oom emit", daemon=True
        )
        self._thread.start()
        atexit.register(self.stop)

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """Emit what has happened so far, and end the threads; the providers stay as they are.

        Exporters that do not return within ``timeout_s`` seconds are not waited for.
        """
        feed, thread = self._feed, self._thread
        if feed is None or thread is None or feed.is_inherited:
            return
        self._feed = self._thread = None
        atexit.unregister(self.stop)
        feed.stop_capture()
        self._stop.set()
        feed.wake()
        thread.join(timeout_s)
        if thread.is_alive():
            _LOG.warning("OomEvents: exporters took longer than %.0f s: not waiting", timeout_s)

    def _run(self, feed: EventFeed, stop: threading.Event) -> None:
        try:
            self._emit_until_stopped(feed, stop)
        except Exception:  # noqa: BLE001  the end of a thread is silent
            _LOG.exception("OomEvents: capture has ended: no more kills are emitted")
        finally:
            feed.close()

    def _emit_until_stopped(self, feed: EventFeed, stop: threading.Event) -> None:
        is_last = False
        while not is_last:
            is_last = stop.is_set()
            try:
                for due in feed.due_events():
                    self._emit(due)
                if not is_last:
                    feed.wait()
            except (sqlite3.Error, MemoryError) as error:
                _LOG.warning("OomEvents: store failed: %s; retrying in %.0f s", error, _RETRY_S)
                stop.wait(_RETRY_S)

    def _emit(self, due: DueEvent) -> None:
        event: Event | None = None
        try:
            if not due.excluder:
                event = process_event(build_event(due.enriched), self._active_processors)
                self._emit_signals(due, event)
        except Exception:  # noqa: BLE001  of the program's processors: a retry would fail as well
            _LOG.exception("OomEvents: event row %d was dropped: emitting it failed", due.row.id)
        self._count(due, event)

    def _count(self, due: DueEvent, event: Event | None) -> None:
        kills = count_kills(due.enriched, event, self._owner_names)
        if self._kills and kills and "logs" in due.signals:
            self._kills.add(kills.count, json.loads(kills.label))

    def _emit_signals(self, due: DueEvent, event: Event | None) -> None:
        if event and "logs" in due.signals:
            self._emit_log(event)
        if "traces" not in due.signals:
            return
        span = event.to_span() if event else None
        if span:
            for processor in self._span_processors:
                processor.on_end(span)
        end = build_end_event(due.enriched)
        processed = process_event(end, self._active_processors) if end else None
        if processed:
            self._emit_log(processed)

    def _emit_log(self, event: Event) -> None:
        if self._logger:
            # The API's own type is that of a record without a resource.
            self._logger.emit(event.to_log_record())  # type: ignore[call-overload]
