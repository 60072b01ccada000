"""Processors of installed packages, named in ``OTEL_OOM_PROCESSORS``.

They are other people's code, between the disk and the outbox: one that raises or hangs costs time,
and never an event.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Final

from otel_oom.otlp.encode import encode_event_log
from otel_oom.otlp.event import Event, Processor, process_event

_LOG = logging.getLogger(__name__)

LIMIT_S: Final = 5.0
"""Longest time of a processor for one event."""


class ProcessorTimeoutError(Exception):
    """A processor did not return in time."""


class ProcessorChain:
    """Processors in their order, each in a thread of its own."""

    def __init__(
        self,
        processors: Mapping[str, Processor],
        errors: Counter[tuple[str, str]],
        limit_s: float = LIMIT_S,
    ) -> None:
        """Count in ``errors``, by name and type; each event may take each ``limit_s`` seconds."""
        self._errors = errors
        self._processors = {
            name: _BoundedProcessor(name, processor, limit_s)
            for name, processor in processors.items()
        }
        self._reported: set[tuple[str, str]] = set()

    def process(self, event: Event) -> Event | str:
        """Return the processed event, or the name of the processor that dropped it."""
        for name, processor in self._processors.items():
            result = process_event(event, [processor], partial(self._count_error, name))
            if result is None:
                return name
            event = result
        return event

    def _count_error(self, name: str, _: Processor, error: Exception) -> None:
        is_timeout = isinstance(error, ProcessorTimeoutError)
        kind = "timeout" if is_timeout else type(error).__qualname__
        self._errors[name, kind] += 1
        if (name, kind) not in self._reported:
            self._reported.add((name, kind))
            _LOG.error("Processor %s: failed, events go on as they were: %s: %s", name, kind, error)


class _BoundedProcessor:
    """A processor that is off once it hangs; its thread ends with the process."""

    def __init__(self, name: str, processor: Processor, limit_s: float) -> None:
        self._name = name
        self._processor = processor
        self._limit_s = limit_s
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()
        self._is_started = self._is_off = False

    def __call__(self, event: Event) -> Event | None:
        if not self._is_off:
            self._start()
            self._events.put(event)
            try:
                return _checked(self._results.get(timeout=self._limit_s))
            except queue.Empty:
                self._is_off = True
        raise ProcessorTimeoutError(f"no result within {self._limit_s:g} s, off until the restart")

    def _start(self) -> None:
        if not self._is_started:
            self._is_started = True
            name = f"processor {self._name}"
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while True:
            event = self._events.get()
            try:
                result: Event | BaseException | None = self._processor(event)
            except BaseException as error:  # noqa: BLE001  other people's code
                result = error
            self._results.put(result)


def _checked(result: Event | BaseException | None) -> Event | None:
    """Return the result if it can be encoded; raise what the processor raised."""
    if isinstance(result, Exception):
        raise result
    if isinstance(result, BaseException):
        raise RuntimeError(f"it raised {type(result).__name__}") from result  # noqa: TRY004  no wrong argument
    if isinstance(result, Event):
        encode_event_log(result)
    return result
