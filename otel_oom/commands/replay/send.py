"""Delivery of replayed events: by a store and a pipeline like the agent's, in another directory.

An agent may run on the same host, and its store is for the events of its own kernel.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.agent.control_handlers import store_handlers
from otel_oom.agent.control_server import ControlServer
from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent.stats import Stats
from otel_oom.commands.replay.events import Event
from otel_oom.config.agent import AgentConfig
from otel_oom.config.filters import FilterConfig
from otel_oom.config.otlp import OtlpConfig
from otel_oom.linux.containers.cgroup_id import containers_by_path
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.event_base import OomEvent
from otel_oom.model.snapshot import EventContainers, Snapshot
from otel_oom.store import Store, StoreLimits

_MAX_QUEUED: Final = 4096
"""Reading pauses at so many unsent messages: the size of the store is limited."""
_TIMEOUT_S: Final = 10.0
"""Longest time without an accepted message."""
_POLL_S: Final = 0.02
_STOP_S: Final = 3.0


class DeliveryTimeoutError(Exception):
    """Not all messages were accepted; the message says what to do."""


class _PathLookup(ContainerService):
    """Lookup of containers in cgroup paths only: those of a log are gone, or on another host."""

    def resolve_deferred(
        self, event: OomEvent, containers: EventContainers | None
    ) -> EventContainers:
        return containers or containers_by_path(event)


class Submitter:
    """Sender of events, which waits until the backends have accepted them."""

    def __init__(self, store: Store, pipeline: DeliveryPipeline, config: OtlpConfig) -> None:
        """Fill ``store``, which ``pipeline`` empties as ``config`` says."""
        self._store = store
        self._pipeline = pipeline
        self._signals = config.signals
        self._sends = not config.disabled
        self._newest_dead_letter = store.dead_letters.newest_id()
        self.new = 0
        """Number of events that were not in the store before."""

    def submit(self, event: Event) -> None:
        """Store an event. Raises DeliveryTimeoutError if too many wait, and none is accepted."""
        snapshot = Snapshot(process_found=False, containers=containers_by_path(event))
        if self._store.insert(event, snapshot):
            self.new += 1
            self._pipeline.notify_events()
            if self._sends and self.new % _MAX_QUEUED == 0:
                self._wait(_MAX_QUEUED)

    def finish(self) -> str:
        """Wait until all messages are sent; return the result.

        Raises DeliveryTimeoutError if a backend accepts nothing, or rejected some.
        """
        if not self._sends:
            return "not sent, because OTEL_SDK_DISABLED is true"
        self._wait(0)
        rejected = self._store.dead_letters.newest_id() - self._newest_dead_letter
        if rejected:
            raise DeliveryTimeoutError(
                f"{rejected} messages were rejected. To see the reasons, and to send them again: "
                f"otel-oom queue --state-dir {self._store.path}"
            )
        return "all sent"

    def _wait(self, limit: int) -> None:
        """Wait until at most ``limit`` messages are unsent."""
        unsent, changed_s = self._count_unsent(), time.monotonic()
        while unsent > limit:
            time.sleep(_POLL_S)
            last, unsent = unsent, self._count_unsent()
            if unsent != last:
                changed_s = time.monotonic()
            elif time.monotonic() - changed_s > _TIMEOUT_S:
                raise DeliveryTimeoutError(
                    f"{unsent} messages wait in {self._store.path}: no backend accepted any for "
                    f"{_TIMEOUT_S:.0f} s. Run the same command again to send them, each once."
                )

    def _count_unsent(self) -> int:
        return self._store.stats.pending_count(self._signals)


@contextmanager
def open_submitter(
    state_dir: Path, config: OtlpConfig, limits: StoreLimits, filters: FilterConfig
) -> Iterator[tuple[Submitter, Store]]:
    """Open the store, and send from it. Raises StoreError."""
    # Resource detectors describe the place of this process, not that of the logs.
    agent_config = AgentConfig(replace(config, detectors=()), filters=filters)
    with Store(state_dir, limits) as store:
        pipeline = DeliveryPipeline(store, agent_config, Stats(), _PathLookup())
        if not config.disabled:
            pipeline.start()
        with ControlServer(state_dir, store_handlers(store, pipeline.notify_outbox)):
            try:
                yield Submitter(store, pipeline, config), store
            finally:
                if not config.disabled:
                    pipeline.stop(_STOP_S)
