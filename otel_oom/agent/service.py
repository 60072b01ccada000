"""`otel-oom run`: the stages joined, from start to end."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from otel_oom.agent import memory
from otel_oom.agent.control_handlers import store_handlers
from otel_oom.agent.control_server import ControlServer
from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent.ingest import IngestLoop
from otel_oom.agent.recorder import EventRecorder
from otel_oom.agent.stats import Stats
from otel_oom.agent.watchdog import Watchdog
from otel_oom.capture.source import Source, SourceSet, SupportsBufferStats
from otel_oom.config.agent import AgentConfig, read_notify_socket, read_watchdog_interval_s
from otel_oom.linux.containers.service import ContainerService
from otel_oom.linux.systemd.notify import send_notification
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import Store

_LOG = logging.getLogger(__name__)

GRACE_S: Final = 3.0
"""Time to send queued messages at the end."""
_KEEP_ALIVE_S: Final = 0.05
"""Longest wait of capture for the service manager; it gets two keep-alives in its limit."""
_TURN_S: Final = 4.0
"""Longest turn of a healthy capture loop: one event, with a disk that is slow."""


def run(
    opening: AbstractContextManager[Source],
    config: AgentConfig,
    state_dir: Path,
    *,
    history: bool = True,
    want_command: bool = False,
) -> None:
    """Capture and deliver until SIGTERM or SIGINT.

    ``history`` is whether to record the kills of this boot from before the first start,
    ``want_command`` whether to record command lines from logs.

    Raises:
        StoreError: the state directory is unusable.
        CaptureError: kills can't be captured.
    """
    with (
        _stop_signals() as stop_fd,
        Store(state_dir, config.store_limits) as store,
        opening as source,
    ):
        notify = partial(send_notification, read_notify_socket(os.environ))
        notify("READY=1")
        _LOG.info(
            "Ready: capturing OOM kills by %s (%s); decisions by %s",
            source.hook,
            source.name,
            source.decision_source or "the kernel log, if it is readable",
        )
        memory.lower_oom_score_adj()
        memory.trim_heap()
        stats = Stats(source if isinstance(source, SupportsBufferStats) else None)
        with ExitStack() as stack:
            containers = ContainerService(config.container_labels)
            containers.start()
            stack.callback(containers.stop)
            delivery = DeliveryPipeline(store, config, stats, containers, _settle_memory)
            if config.otlp.disabled:
                _LOG.warning("OTEL_SDK_DISABLED is true: kills are kept on disk and not sent")
                memory.lock_memory()
            else:
                delivery.start()
            interval_s = read_watchdog_interval_s(os.environ)
            keep_alive = partial(notify, timeout_s=_KEEP_ALIVE_S)
            watchdog = Watchdog(interval_s, partial(_health_error, store, delivery), keep_alive)
            from otel_oom.capture.kmsg.report_lookup import open_report_index  # noqa: PLC0415  after capture has begun
            from otel_oom.capture.panic import scan  # noqa: PLC0415  likewise
            from otel_oom.capture.userspace.source import JournalSource  # noqa: PLC0415  likewise

            wake = delivery.notify_events
            scan.start_panic_scan(
                lambda panic: store.insert(panic, Snapshot(process_found=False)), wake
            )
            daemons = stack.enter_context(
                JournalSource(state_dir, history=history, want_command=want_command)
            )
            annotate = stack.enter_context(open_report_index(source))
            sources = SourceSet(source, (daemons,))
            recorder = EventRecorder(store, stats, containers, annotate, config.report_interval_s)
            ingest = IngestLoop(
                sources, store, recorder, stats, watchdog, on_event=wake, history=history
            )
            handlers = {
                **store_handlers(store, delivery.notify_outbox, stats.parked),
                "alive": lambda _: _liveness_error(ingest, store, delivery),
            }
            stack.enter_context(ControlServer(state_dir, handlers))
            try:
                ingest.loop(stop_fd)
            finally:
                notify("STOPPING=1")
                if not config.otlp.disabled:
                    delivery.stop(GRACE_S)
                # Kills of the meantime are stored too, for the next start to send.
                ingest.finish()
        counts = store.stats.row_counts()
        _LOG.info("Stopped: queued=%d dead_letters=%d", counts["outbox"], counts["dead_letters"])


def _settle_memory() -> None:
    memory.trim_heap()
    memory.lock_memory()


def _liveness_error(ingest: IngestLoop, store: Store, delivery: DeliveryPipeline) -> str | None:
    if not ingest.probe.wait_for_turn(_TURN_S):
        return f"the capture loop has made no turn for {_TURN_S:.0f} s"
    return _health_error(store, delivery)


def _health_error(store: Store, delivery: DeliveryPipeline) -> str | None:
    """Return a fault that a restart may fix; ``None`` if the agent is healthy."""
    try:
        store.stats.ping()
    except sqlite3.Error as error:
        return f"the store can't be read: {error}"
    return delivery.health_error


@contextmanager
def _stop_signals() -> Iterator[int]:
    """Yield a descriptor that becomes readable on SIGTERM and SIGINT."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in previous:
        signal.signal(number, lambda *_: None)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
