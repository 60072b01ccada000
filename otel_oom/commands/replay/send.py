"""What was found, to the backends: by a store and a delivery as the agent's, in a folder apart.

The agent may be at work on the same host, and its store is of its own kernel's kills.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from otel_oom.agent.control_handlers import store_handlers
from otel_oom.agent.control_server import ControlServer
from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent.stats import Stats
from otel_oom.commands.replay.events import Event
from otel_oom.config.agent import AgentConfig
from otel_oom.config.otlp import OtlpConfig
from otel_oom.linux.containers.of_event import containers_by_path
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.container import EventContainers
from otel_oom.model.event_base import OomEvent
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import Store, StoreLimits

_MOST_WAITING: Final = 4096
"""Reading waits for the backends when so much is to be sent: the store has a bound."""
_PATIENCE_S: Final = 10.0
"""How long nothing may leave the store before it is left for another time."""
_POLL_S: Final = 0.02
_STOP_S: Final = 3.0


class DeliveryTimeoutError(Exception):
    """A backend has not taken all; what is left is on the disk. The message says what to do."""


class _ByPath(ContainerService):
    """What cgroups' paths tell of containers: those of a log are gone, or another host's."""

    def resolve_deferred(
        self, event: OomEvent, containers: EventContainers | None
    ) -> EventContainers:
        return containers or containers_by_path(event)


class Submitter:
    """Takes events, and is done when the backends have them."""

    def __init__(self, store: Store, delivery: DeliveryPipeline, *, sends: bool) -> None:
        """Into ``store``, out of which ``delivery`` takes, if it ``sends``."""
        self._store = store
        self._delivery = delivery
        self._sends = sends
        self._refused = store.dead_letters.newest_id()
        self.new = 0
        """How many of the events were not in the store before."""

    def take(self, event: Event) -> None:
        """Bring an event to the disk.

        Raises:
            NotTakenError: too much waits there, and no backend takes it.
        """
        seen = Snapshot(process_found=False, containers=containers_by_path(event))
        if self._store.insert(event, seen):
            self.new += 1
            self._delivery.notify_events()
            if self._sends and self.new % _MOST_WAITING == 0:
                self._wait(_MOST_WAITING)

    def finish(self) -> str:
        """Wait until all is sent; what has become of it.

        Raises:
            NotTakenError: a backend does not take it, or will not take some of it at all.
        """
        if not self._sends:
            return "kept on disk, for OTEL_SDK_DISABLED is true"
        self._wait(0)
        refused = self._store.dead_letters.newest_id() - self._refused
        if refused:
            raise DeliveryTimeoutError(
                f"{refused} messages were refused for good. otel-oom queue --state-dir "
                f"{self._store.folder} shows why, and sends them again."
            )
        return "all is sent"

    def _wait(self, most: int) -> None:
        last, moved = self._store.stats.pending_count(), time.monotonic()
        while last > most:
            time.sleep(_POLL_S)
            left = self._store.stats.pending_count()
            if left != last:
                last, moved = left, time.monotonic()
            elif time.monotonic() - moved > _PATIENCE_S:
                raise DeliveryTimeoutError(
                    f"{left} messages wait in {self._store.folder}, for nothing was taken for "
                    f"{_PATIENCE_S:.0f} s. The same command sends them another time, each once."
                )


@contextmanager
def sender(
    state_dir: Path, settings: OtlpConfig, bounds: StoreLimits
) -> Iterator[tuple[Submitter, Store]]:
    """Where to send what is found.

    Raises:
        StoreError: the state folder can't be used.
    """
    # What is found of the place that this process is in is not the logs'.
    config = AgentConfig(replace(settings, detectors=()))
    with Store(state_dir, bounds) as store:
        delivery = DeliveryPipeline(store, config, Stats(), _ByPath())
        if not settings.disabled:
            delivery.start()
        with ControlServer(state_dir, store_handlers(store, delivery.notify_outbox)):
            try:
                yield Submitter(store, delivery, sends=not settings.disabled), store
            finally:
                if not settings.disabled:
                    delivery.stop(_STOP_S)
