"""`otel-oom run` once it is ready: the stages joined, until the end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

from otel_oom.agent import memory
from otel_oom.agent.control_handlers import store_handlers
from otel_oom.agent.control_server import ControlServer
from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent.health import Health
from otel_oom.agent.ingest_stage import IngestOptions, open_ingest
from otel_oom.agent.settling import MemorySettling
from otel_oom.agent.stats import Stats
from otel_oom.agent.usage_stage import run_usage_recorder
from otel_oom.agent.watchdog import Watchdog
from otel_oom.capture.source import Source, SupportsBufferStats
from otel_oom.config.agent import AgentConfig, read_watchdog_interval_s
from otel_oom.linux import heap
from otel_oom.linux.containers.service import ContainerService
from otel_oom.store import Store

_LOG = logging.getLogger(__name__)

GRACE_S: Final = 3.0
"""Time to send queued messages at the end."""
_KEEP_ALIVE_S: Final = 0.05
"""Longest wait of capture for the service manager; it gets two keep-alives in its limit."""


def run(  # noqa: PLR0913  the last are named at the call
    source: Source,
    store: Store,
    config: AgentConfig,
    notify: Callable[..., None],
    stop_fd: int,
    *,
    history: bool,
    want_command: bool,
) -> None:
    """Capture from the attached ``source`` and deliver, until ``stop_fd`` is readable.

    ``notify`` sends a state to the service manager. The others are those of
    :func:`otel_oom.agent.startup.run`.
    """
    memory.lower_oom_score_adj()
    heap.bound_free_heap()
    heap.trim_heap()
    stats = Stats(source if isinstance(source, SupportsBufferStats) else None)
    with ExitStack() as stack:
        containers = ContainerService(config.container_labels)
        containers.start()
        stack.callback(containers.stop)
        health = Health(store)
        settling = MemorySettling(store, parts=2)
        stack.callback(settling.stop)
        delivery = DeliveryPipeline(
            store,
            config,
            stats,
            containers,
            on_ready=settling.finish_part,
            on_idle=settling.return_heap,
            health=health,
        )
        health.find_delivery_error = lambda: delivery.health_error
        if config.otlp.disabled:
            _LOG.warning("OTEL_SDK_DISABLED is true: kills are kept on disk and not sent")
            settling.finish_part()
        else:
            for name, setting in config.otlp.signals_off.items():
                _LOG.warning("No %s are sent: %s", name, setting)
            delivery.start()
        interval_s = read_watchdog_interval_s(os.environ)
        keep_alive = partial(notify, timeout_s=_KEEP_ALIVE_S)
        watchdog = Watchdog(interval_s, health.find_error, keep_alive)
        _log_missing_rights()
        options = IngestOptions(
            history=history,
            want_command=want_command,
            report_interval_s=config.report_interval_s,
        )
        usage = stack.enter_context(
            run_usage_recorder(config.usage, store, stats, delivery.notify_events)
        )
        ingest = stack.enter_context(
            open_ingest(
                source,
                store,
                stats,
                containers,
                watchdog,
                options=options,
                on_event=delivery.notify_events,
                usage=usage,
            )
        )
        health.ingest = ingest
        settling.finish_part()
        handlers = {
            **store_handlers(
                store,
                delivery.notify_outbox,
                stats.parked,
                config.otlp.signals_off,
                stats.processor_errors,
            ),
            "alive": lambda _: health.find_liveness_error(),
        }
        stack.enter_context(ControlServer(store.path, handlers))
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


def _log_missing_rights() -> None:
    """Log what events will lack; the source has logged what keeps it from using BPF."""
    from otel_oom.linux.rights import find_missing_rights  # noqa: PLC0415  after capture has begun

    for right in find_missing_rights():
        if not right.of_source:
            _LOG.warning("Missing right: %s: %s. %s", right.name, right.loss, right.advice)
