"""What joins the stages: signals, and the order of start and end."""

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
from otel_oom.agent.watchdog import Watchdog
from otel_oom.capture.source import Source
from otel_oom.config.agent import AgentConfig
from otel_oom.config.systemd import read_notify_socket, read_watchdog_interval_s
from otel_oom.linux.containers.service import ContainerService
from otel_oom.linux.systemd.notify import notify as send_notification
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import Store

_LOG = logging.getLogger(__name__)

GRACE_S: Final = 3.0
"""How long the end may take to send what waits."""


def run(
    opening: AbstractContextManager[Source],
    config: AgentConfig,
    state_dir: Path,
    *,
    history: bool = True,
) -> None:
    """Capture and deliver until SIGTERM or SIGINT.

    ``history`` is whether to record the kills of this boot from before the first start.

    Raises:
        StoreError: the state directory is unusable.
        CaptureError: kills can't be captured.
    """
    with (
        _signals() as stop_fd,
        Store(state_dir, config.store_limits) as store,
        opening as source,
    ):
        notify = partial(send_notification, read_notify_socket(os.environ))
        notify("READY=1")
        _LOG.info(
            "Ready: capturing OOM kills by %s (%s), their decisions by %s",
            source.hook,
            source.name,
            source.decision_source or "nothing, for this host allows neither a hook nor its log",
        )
        memory.spare_me()
        memory.give_back()
        delivery = DeliveryPipeline(
            store, config, ContainerService(config.container_labels), source
        )
        delivery.runtimes.start()
        if config.otlp.disabled:
            _LOG.warning("OTEL_SDK_DISABLED is true: kills are kept on disk and not sent")
            memory.hold()
        else:
            delivery.start()
        heartbeat = Watchdog(
            read_watchdog_interval_s(os.environ), lambda: _trouble(store, delivery), notify
        )
        from otel_oom.capture.panic import scan  # noqa: PLC0415  after capture has begun
        from otel_oom.capture.source_set import Sources, log_beside  # noqa: PLC0415  likewise
        from otel_oom.capture.userspace.source import JournalSource  # noqa: PLC0415  likewise

        scan.begin(lambda event: store.insert(event, Snapshot(process_found=False)), delivery.wake)
        with (
            ExitStack() as until,
            JournalSource(state_dir, history=history) as killers,
            ControlServer(state_dir, store_handlers(store, delivery.look_again)),
        ):
            sources = Sources(source, (killers,), log_beside(source, until))
            intake = IngestLoop(sources, store, delivery, heartbeat, history=history)
            try:
                intake.loop(stop_fd)
            finally:
                notify("STOPPING=1")
                if not config.otlp.disabled:
                    delivery.stop(GRACE_S)
                # What was killed meanwhile is on disk as well, for the next start to send.
                intake.finish()
        _LOG.info("Stopped; left on disk: %s", _left(store))


def _trouble(store: Store, delivery: DeliveryPipeline) -> str | None:
    """What a restart may mend: a store that can't be read, a thread that has ended or is stuck."""
    try:
        store.stats.ping()
    except sqlite3.Error as error:
        return f"the store can't be read: {error}"
    return delivery.trouble


def _left(store: Store) -> str:
    counts = store.row_counts()
    return f"{counts['outbox']} waiting, {counts['dead_letters']} refused"


@contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that becomes readable on SIGTERM and SIGINT, which then end nothing else."""
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
