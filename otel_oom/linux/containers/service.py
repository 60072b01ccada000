"""The host's containers, known ahead of time and asked for at each kill."""

from __future__ import annotations

import logging
import math
import os
import selectors
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.linux.containers.watcher import Watch
from otel_oom.model.container import Container, EventContainers
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import CapturedEvent

if TYPE_CHECKING:
    from otel_oom.linux.containers.runtime_api import Api

_LOG = logging.getLogger(__name__)

_MOST_ASKED: Final = 2048
_WAIT_S: Final = 0.02
"""What a kill may wait for the runtimes' files."""

_LATER_S: Final = 3.0
"""What its delivery may, which is in nobody's way: on a busy host the thread has its turn late."""

_MOST_LATE: Final = 64


@dataclass(slots=True)
class _Request:
    event: OomEvent
    done: threading.Event = field(default_factory=threading.Event)
    answer: EventContainers | None = None


class ContainerService:
    """One thread that reads what runtimes write, so that a file that hangs holds up no kill."""

    def __init__(self, labels: frozenset[str] = frozenset()) -> None:
        """Keep of the containers' labels those with the keys ``labels``."""
        self._finder = ContainerLookup(labels)
        self._labels = labels
        self._api: Api | None = None
        self._asked: dict[str, None] = {}
        self._requests: deque[_Request] = deque(maxlen=_MOST_LATE)
        self._unanswered: dict[str, _Request] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._late = threading.Event()
        self._stuck = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="containers", daemon=True)

    def start(self) -> None:
        """Begin to know what runs; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, unless a file holds it up."""
        self._stop.set()
        self._ring()
        if self._thread.is_alive():
            self._thread.join(_WAIT_S)

    def at_once(self, event: CapturedEvent) -> EventContainers | None:
        """The containers of an event that has just happened, within 20 ms; raises nothing.

        While some file holds the thread up, what it would have found is left out without a wait:
        :meth:`later` has it if it comes.
        """
        # Of what happened before this start, no process is there to look for.
        if not isinstance(event, OomEvent) or event.capture.recovered:
            return None
        try:
            return self._now(event)
        except Exception:  # noqa: BLE001  whatever it was, the kill comes first
            _LOG.exception("Nothing could be found out about the container of an OOM kill")
            return None

    def _now(self, event: OomEvent) -> EventContainers:
        if self._needs_look(event):
            request = _Request(event)
            self._requests.append(request)
            self._ring()
            if not self._late.is_set() and request.done.wait(_WAIT_S) and request.answer:
                return request.answer
            self._late.set()
            self._unanswered[event.uid] = request
            while len(self._unanswered) > _MOST_LATE:
                self._unanswered.pop(next(iter(self._unanswered)), None)
        return self._finder.by_path(event)

    def later(self, event: OomEvent, contained: EventContainers | None) -> EventContainers:
        """The same with what has become known since; for a caller that may wait."""
        contained = self._answer_to(event) or contained
        if contained is None:
            contained = self._finder.contained(event, look=False)
        return EventContainers(*(self._completed(one) for one in contained.parts))

    def _answer_to(self, event: OomEvent) -> EventContainers | None:
        """What came too late for the kill itself, if it found more than the cgroup's path tells."""
        request = self._unanswered.pop(event.uid, None)
        if request is None:
            return None
        if not self._stuck.is_set() and not request.done.wait(_LATER_S):
            self._stuck.set()
        return request.answer if request.answer and request.answer.victim else None

    def _completed(self, container: Container | None) -> Container | None:
        """What is known by now, else what the runtime's API tells: asked once for a container."""
        known = self._known(container)
        if known is None or known.id in self._asked:
            return known
        from otel_oom.linux.containers.runtime_api import Api  # noqa: PLC0415  only where there are containers

        self._api = self._api or Api(self._labels, os.environ)
        self._asked[known.id] = None
        while len(self._asked) > _MOST_ASKED:
            del self._asked[next(iter(self._asked))]
        told = self._api.complete(known)
        # Known without a name it would not be looked for again, and its file may answer by then.
        return self._finder.remember(told) if told.name else told

    def _needs_look(self, event: OomEvent) -> bool:
        # What is known already is had without a change of threads.
        return self._thread.is_alive() and self._finder.needs_look(event)

    def _known(self, container: Container | None) -> Container | None:
        if container is None:
            return None
        return self._finder.known(container.id) or container

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        try:
            watch: Watch | None = Watch(self._finder)
        except OSError as error:
            watch = None
            _LOG.warning("Containers are not watched, and are looked for at each kill: %s", error)
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            if watch:
                selector.register(watch, selectors.EVENT_READ)
            fill = self._fill(watch) if watch else iter(())
            while not self._stop.is_set():
                try:
                    self._turn(selector, watch, fill)
                except Exception:  # noqa: BLE001  one container must not end it for all others
                    _LOG.exception("What a container runtime has written could not be read")
        if watch:
            watch.close()

    def _fill(self, watch: Watch) -> Iterator[None]:
        yield from watch.fill()
        _LOG.info("Watching for containers in %s", watch)

    def _turn(
        self, selector: selectors.BaseSelector, watch: Watch | None, fill: Iterator[None]
    ) -> None:
        self._answer()
        wait = watch.try_again() if watch else math.inf
        if next(fill, self) is not self:
            wait = 0.0
        for key, _ in selector.select(None if wait == math.inf else wait):
            if key.fileobj is watch and watch:
                watch.take()
            else:
                os.eventfd_read(self._wake)

    def _answer(self) -> None:
        while self._requests:
            request = self._requests.popleft()
            try:
                request.answer = self._finder.contained(request.event, look=True)
            finally:
                request.done.set()
        self._late.clear()
        self._stuck.clear()
