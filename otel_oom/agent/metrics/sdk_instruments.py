"""Metrics that OpenTelemetry names for every SDK: dashboards for them work here.

Semantic conventions 1.44, "SDK metrics". The outbox is the processor's queue. It is on disk, and
its messages are done when they leave it. Metrics of an SDK's tracer are missing: no span is started
here before it has ended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Final

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from otel_oom.agent.metrics.attributes import ITEMS, exporter_attributes, queue_attributes
from otel_oom.agent.stats import Stats
from otel_oom.config.exporters import Destination
from otel_oom.store import Store
from otel_oom.store.counters import DROPPED, NO_BOOT

_Attributes = Mapping[str, str | int]

_UNITS: Final = {"logs": "{log_record}", "traces": "{span}"}
_DURATION_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class SdkInstruments:
    """The instruments of exporters and queues, with a data point for each channel."""

    def __init__(
        self, meter: Meter, exporters: Mapping[str, Destination], stats: Stats, store: Store
    ) -> None:
        """Add the instruments to ``meter``; they read ``stats`` and ``store``.

        ``exporters`` are by their channel.
        """
        self._stats = stats
        self._store = store
        self._attributes = {
            channel: exporter_attributes(exporter) for channel, exporter in exporters.items()
        }
        self.channels = {
            signal: [name for name, exporter in exporters.items() if exporter.signal == signal]
            or [signal]
            for signal in ITEMS
        }
        """The channels of each signal; one without an exporter has its own name."""
        names = [*chain.from_iterable(self.channels.values()), *ITEMS, "reports"]
        self._dropped_before = {name: self._count_dropped(name) for name in names}
        for signal in {exporter.signal for exporter in exporters.values()}:
            self._add_exporters(meter, signal)
        for signal in ITEMS:
            self._add_queues(meter, signal)
        meter.create_observable_counter(
            "otel.sdk.log.created",
            [lambda _: [Observation(stats.created_logs)]],
            _UNITS["logs"],
            "Log events that were encoded and queued.",
        )
        duration = meter.create_histogram(
            "otel.sdk.exporter.operation.duration",
            "s",
            "Duration of a request to a backend.",
            explicit_bucket_boundaries_advisory=_DURATION_BOUNDS_S,
        )
        stats.record_request = partial(self._record_request, duration)

    def count_new_drops(self, name: str) -> int:
        """Count what was dropped since the start: messages of a channel, or ``reports``.

        Raises sqlite3.Error if the store can't be read.
        """
        return max(0, self._count_dropped(name) - self._dropped_before[name])

    def _add_exporters(self, meter: Meter, signal: str) -> None:
        name, channels = f"otel.sdk.exporter.{ITEMS[signal]}", self.channels[signal]
        meter.create_observable_counter(
            f"{name}.exported",
            [partial(self._observe_exported, channel) for channel in channels],
            _UNITS[signal],
            "Messages that a backend accepted or rejected.",
        )
        meter.create_observable_up_down_counter(
            f"{name}.inflight",
            [partial(self._observe_in_flight, channel) for channel in channels],
            _UNITS[signal],
            "Messages of the request that is under way.",
        )

    def _add_queues(self, meter: Meter, signal: str) -> None:
        name, channels = f"otel.sdk.processor.{ITEMS[signal]}", self.channels[signal]
        meter.create_observable_counter(
            f"{name}.processed",
            [partial(self._observe_processed, channel) for channel in channels],
            _UNITS[signal],
            "Messages that left the outbox: with a final result, or dropped at its size limit.",
        )
        copies = {each: len(self.channels[each]) for each in ITEMS}
        for part, read, description in (
            ("size", self._store.stats.queue_depth, "Messages in the outbox."),
            (
                "capacity",
                lambda channel: self._store.stats.queue_capacity(channel, copies),
                "Messages that fit into the outbox, at their present mean size.",
            ),
        ):
            meter.create_observable_up_down_counter(
                f"{name}.queue.{part}",
                [observe_store(partial(read, each), queue_attributes(each)) for each in channels],
                _UNITS[signal],
                description,
            )

    def _observe_exported(self, channel: str, _: CallbackOptions) -> Iterable[Observation]:
        # A copy: an exporter may add an error type meanwhile.
        exported = {(channel, ""): 0} | dict(list(self._stats.exported.items()))
        for (exported_channel, error_type), count in exported.items():
            if exported_channel == channel:
                yield Observation(count, _with_error(self._attributes[channel], error_type))

    def _observe_in_flight(self, channel: str, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._stats.in_flight.get(channel, 0), self._attributes[channel])

    def _observe_processed(self, channel: str, options: CallbackOptions) -> Iterable[Observation]:
        results = list(self._stats.exported.items())
        count = sum(
            count for (exported_channel, _), count in results if exported_channel == channel
        )
        attributes = queue_attributes(channel)
        yield Observation(count, attributes)
        dropped = partial(self.count_new_drops, channel)
        yield from observe_store(dropped, _with_error(attributes, "queue_full"))(options)

    def _count_dropped(self, name: str) -> int:
        return self._store.counters(NO_BOOT).get(f"{DROPPED}{name}", 0)

    def _record_request(
        self, duration: Histogram, channel: str, duration_s: float, error_type: str
    ) -> None:
        duration.record(duration_s, _with_error(self._attributes[channel], error_type))


def _with_error(attributes: _Attributes, error_type: str) -> _Attributes:
    return {**attributes, "error.type": error_type} if error_type else attributes


def observe_store(
    read: Callable[[], float], attributes: _Attributes
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """Observe a number of the store; none while it is unreadable, which others log."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        try:
            return [Observation(read(), attributes)]
        except sqlite3.Error:
            return []

    return observe
