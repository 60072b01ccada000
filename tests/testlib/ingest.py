"""The ingest loop with a scripted source, without the agent's process around it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from otel_oom.agent.ingest import IngestLoop
from otel_oom.agent.recorder import EventRecorder
from otel_oom.agent.stats import Stats
from otel_oom.agent.watchdog import Watchdog
from otel_oom.capture.source import AnnotateKill, Handler, SourceSet
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.events import CapturedEvent
from otel_oom.model.loss import LostEvents
from otel_oom.snapshot.usage import UsageSource
from otel_oom.store import Store


class ScriptedSource:
    """A source with a buffer of given events; it is never readable."""

    name = hook = "scripted"
    decision_source = ""
    pinned = False

    def __init__(self, events: Sequence[CapturedEvent] = ()) -> None:
        """Hold ``events`` until they are drained."""
        self.buffer = list(events)
        self._pipe = os.pipe()

    def __enter__(self) -> Self:
        """Attach nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pipe that was waited for."""
        for descriptor in self._pipe:
            os.close(descriptor)

    def fileno(self) -> int:
        """Return a descriptor that is never readable."""
        return self._pipe[0]

    def drain(self, handler: Handler) -> int:
        """Hand over all events; one that the handler fails on stays, as in a ring buffer."""
        count = 0
        while self.buffer:
            handler(self.buffer[0])
            del self.buffer[0]
            count += 1
        return count

    def lost_events(self) -> LostEvents:
        """Report no loss."""
        return LostEvents()


def ingest_loop(  # noqa: PLR0913  each is named at the call
    source: ScriptedSource,
    store: Store,
    *,
    on_event: Callable[[], None] = lambda: None,
    annotate: AnnotateKill = lambda kill: kill,
    others: Sequence[ScriptedSource] = (),
    report_interval_s: int = 0,
    usage: UsageSource | None = None,
) -> IngestLoop:
    """Create the loop that drains ``source`` into ``store``."""
    stats = Stats()
    recorder = EventRecorder(
        store, stats, ContainerService(), annotate, report_interval_s=report_interval_s, usage=usage
    )
    watchdog = Watchdog(None, lambda: None, lambda _: None)
    return IngestLoop(
        SourceSet(source, tuple(others)),
        store,
        recorder,
        stats,
        watchdog,
        on_event=on_event,
        history=False,
    )


def ingest(
    state_dir: Path,
    *events: CapturedEvent,
    annotate: AnnotateKill = lambda kill: kill,
    report_interval_s: int = 0,
    usage: UsageSource | None = None,
) -> None:
    """Drain ``events`` into the store of ``state_dir`` once."""
    with Store(state_dir) as store, ScriptedSource(events) as source:
        loop = ingest_loop(
            source, store, annotate=annotate, report_interval_s=report_interval_s, usage=usage
        )
        loop.finish()
        assert not source.buffer
