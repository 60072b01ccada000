"""The host's containers, read ahead of kills and looked up at each kill."""

from __future__ import annotations

import logging
import math
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from otel_oom.linux.containers.lookup import NOT_FOUND, ContainerLookup
from otel_oom.linux.containers.pod_search import PodSearch
from otel_oom.linux.containers.watcher import BundleWatcher
from otel_oom.linux.time_budget import TimeBudget
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import CapturedEvent
from otel_oom.model.snapshot import Container, EventContainers

_LOG = logging.getLogger(__name__)

_WAIT_S: Final = 0.02
"""Longest wait of a kill for the runtimes' files."""

_DEFERRED_WAIT_S: Final = 3.0
"""Longest wait of a delivery, which delays no kill: on a busy host the thread runs late."""

_WINDOW_S: Final = 60.0
"""All waits of deliveries in this time take no longer than two of them: one row is not alone."""

_MAX_DETAILED: Final = 2048
_MAX_TIMED_OUT: Final = 64


class _Request(Struct, eq=False):
    event: OomEvent
    done: threading.Event = field(default_factory=threading.Event)
    containers: EventContainers | None = None


class ContainerService:
    """A thread that reads the runtimes' files, so that a file that hangs delays no kill."""

    def __init__(self, labels: frozenset[str] = frozenset(), proc: Path = Path("/proc")) -> None:
        self._lookup = ContainerLookup(labels, proc)
        self._pod_search = PodSearch(self._lookup, proc)
        self._labels = labels
        self._add_details: Callable[[Container], Container] | None = None
        self._detailed: dict[str, Container] = {}
        self._requests: deque[_Request] = deque(maxlen=_MAX_TIMED_OUT)
        self._timed_out: dict[str, _Request] = {}
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._budget = TimeBudget(_DEFERRED_WAIT_S, _WINDOW_S)
        self._is_late = threading.Event()
        self._is_stuck = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="containers", daemon=True)

    def start(self) -> None:
        """Start to read what runs; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, unless a file blocks it."""
        self._stop.set()
        self._notify()
        if self._thread.is_alive():
            self._thread.join(_WAIT_S)

    def resolve_now(self, event: CapturedEvent) -> EventContainers | None:
        """Return the containers of an event that just happened, within 20 ms; raises nothing.

        While a file blocks the thread, its result is left out without a wait:
        :meth:`resolve_deferred` returns it if it comes.
        """
        # The processes of an earlier event are gone.
        if not isinstance(event, OomEvent) or event.capture.recovered:
            return None
        try:
            return self._resolve(event)
        except Exception:  # noqa: BLE001  whatever it was, the kill comes first
            _LOG.exception("Container lookup for an OOM kill failed")
            return None

    def _resolve(self, event: OomEvent) -> EventContainers:
        # Cached containers need no change of threads.
        if self._thread.is_alive() and self._lookup.needs_io(event):
            request = _Request(event)
            self._requests.append(request)
            self._notify()
            if not self._is_late.is_set() and request.done.wait(_WAIT_S) and request.containers:
                return request.containers
            self._is_late.set()
            self._timed_out[event.uid] = request
            while len(self._timed_out) > _MAX_TIMED_OUT:
                self._timed_out.pop(next(iter(self._timed_out)), None)
        return self._lookup.resolve_cached(event)

    def resolve_deferred(
        self, event: OomEvent, containers: EventContainers | None
    ) -> EventContainers:
        """Return ``containers`` with what became known since; for a caller that may wait."""
        containers = self._late_result(event) or containers
        if containers is None:
            self._pod_search.read_pods(event)
            containers = self._lookup.resolve(event, processes=False)
        elif any(each and each.error == NOT_FOUND for each in containers.parts):
            self._pod_search.read_pods(event)
            containers = self._lookup.describe_gone(event, containers)
        cached = self._lookup.resolve_cached(event).parts
        read = {each.id: each for each in cached if each and not each.error}
        return EventContainers(
            *(each and self._complete(read.get(each.id, each)) for each in containers.parts)
        )

    def _late_result(self, event: OomEvent) -> EventContainers | None:
        """Return the result that was too late for the kill itself, if it has a container."""
        request = self._timed_out.pop(event.uid, None)
        if request is None:
            return None
        if not (self._is_stuck.is_set() or self._budget.is_exhausted):
            with self._budget.spend():
                if not request.done.wait(_DEFERRED_WAIT_S):
                    self._is_stuck.set()
        return request.containers if request.containers and request.containers.victim else None

    def _complete(self, container: Container) -> Container:
        """Return the container with details of its runtime's API, requested once.

        The API is that of the host: of others it could only describe a container of the host.
        """
        if container.scope:
            return container
        detailed = self._detailed.get(container.id)
        if detailed and (detailed.name or not container.name):
            return detailed
        if self._add_details is None:
            from otel_oom.linux.containers.runtime_api import RuntimeApi  # noqa: PLC0415  only where there are containers

            self._add_details = RuntimeApi(self._labels, os.environ).add_details
        detailed = self._lookup.records.add_details(self._add_details(container))
        # Otherwise the runtime may have been slow, and is queried again at a later kill.
        if detailed.error is None:
            self._detailed[container.id] = detailed
            while len(self._detailed) > _MAX_DETAILED:
                del self._detailed[next(iter(self._detailed))]
        return detailed

    def _notify(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_write(self._wakeup, 1)

    def _run(self) -> None:
        try:
            watcher: BundleWatcher | None = BundleWatcher(self._lookup)
        except OSError as error:
            watcher = None
            _LOG.warning("Cannot watch for containers (%s); searching at each kill", error)
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup, selectors.EVENT_READ)
            if watcher:
                selector.register(watcher, selectors.EVENT_READ)
            startup = self._read_running(watcher) if watcher else iter(())
            while not self._stop.is_set():
                try:
                    self._run_once(selector, watcher, startup)
                except Exception:  # noqa: BLE001  one container must not end it for all others
                    _LOG.exception("Reading a container runtime's files failed")
        if watcher:
            watcher.close()

    def _read_running(self, watcher: BundleWatcher) -> Iterator[None]:
        yield from watcher.read_running()
        _LOG.info("Watching for containers in %s", watcher)

    def _run_once(
        self,
        selector: selectors.BaseSelector,
        watcher: BundleWatcher | None,
        startup: Iterator[None],
    ) -> None:
        self._handle_requests()
        wait_s = watcher.retry_pending() if watcher else math.inf
        if next(startup, self) is not self:
            wait_s = 0.0
        for key, _ in selector.select(None if wait_s == math.inf else wait_s):
            if key.fileobj is watcher and watcher:
                watcher.read_new()
            else:
                os.eventfd_read(self._wakeup)

    def _handle_requests(self) -> None:
        while self._requests:
            request = self._requests.popleft()
            try:
                request.containers = self._lookup.resolve(request.event, processes=True)
            finally:
                request.done.set()
        self._is_late.clear()
        self._is_stuck.clear()
