"""Which containers an event is about, and what their runtimes' files say of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux.containers import oci_bundle, shims
from otel_oom.linux.containers.bundle_dirs import BundleDir, usual
from otel_oom.linux.containers.cgroup_id import containers_of
from otel_oom.linux.containers.of_event import contained, of_path
from otel_oom.linux.containers.shims import Shim
from otel_oom.model.container import Container, EventContainers
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.types import Memcg, Task

LATE: Final = "the files of its runtime did not answer in time"
"""Why nothing is known yet of a container: its files may answer later."""

_MOST_KNOWN: Final = 2048
_MOST_PLACES: Final = 64
_SANDBOX: Final = ("io.kubernetes.cri.container-type", "sandbox")


class ContainerLookup:
    """The containers known so far, and where others may be found.

    It may be asked from several threads. A container that is known once stays so when it is gone,
    until as many others came.
    """

    def __init__(self, labels: frozenset[str], proc: Path = Path("/proc")) -> None:
        """Keep the labels with the keys ``labels``, and no others."""
        self._labels = labels
        self._proc = proc
        self._known: dict[str, Container] = {}
        self._places: dict[Path, BundleDir] = {}
        self._lock = threading.Lock()

    def known(self, container_id: str) -> Container | None:
        """What is known of a container already."""
        return self._known.get(container_id)

    def remember(self, container: Container) -> Container:
        """Know ``container`` from now on."""
        with self._lock:
            known = self._known.pop(container.id, None)
            if known and known.name and not container.name:
                container = known
            self._known[container.id] = container
            while len(self._known) > _MOST_KNOWN:
                del self._known[next(iter(self._known))]
        return container

    def places(self) -> list[BundleDir]:
        """Where bundles may be: the usual places that are there now, and those learned."""
        roots = (Path("/"),) if self._same_mounts_as_init() else (Path("/"), self._proc / "1/root")
        found = {place.folder: place for root in roots for place in usual(root)}
        with self._lock:
            return list({**found, **self._places}.values())

    def learn(self, place: BundleDir) -> None:
        """Look into ``place`` too from now on."""
        with self._lock:
            if len(self._places) < _MOST_PLACES:
                self._places.setdefault(place.folder, place)

    def read(self, container_id: str, place: BundleDir) -> Container | None:
        """What ``place`` has of a container, if it is there: known from now on."""
        found = oci_bundle.read(container_id, place, self._labels)
        return self.remember(found) if found else None

    def meet(self, monitor: Shim, container_id: str | None = None) -> Container | None:
        """What is to be read of the container of a monitor, or of another one of its pod."""
        wanted = container_id or monitor.container_id
        found = oci_bundle.read(wanted, monitor.place, self._labels, monitor.run_lists)
        if found is None:
            return None
        self.learn(monitor.place)
        if monitor.name and monitor.container_id == wanted and found.name is None:
            found = replace(found, name=monitor.name)
        return self.remember(found)

    def contained(self, event: OomEvent, *, look: bool) -> EventContainers:
        """The containers of an event.

        Args:
            event: the event.
            look: whether to look at the processes themselves, which are gone later.
        """
        return contained(event, lambda task, memcg: self._of(task, memcg, look=look))

    def by_path(self, event: OomEvent) -> EventContainers:
        """The same without any file: what is known already, and the bare ids."""
        return contained(event, lambda _, memcg: [self._late(one) for one in of_path(memcg)])

    def _late(self, container: Container) -> Container:
        return self.known(container.id) or replace(container, error=LATE)

    def needs_look(self, event: OomEvent) -> bool:
        """Whether :meth:`contained` finds more than :meth:`by_path`; waits for nothing."""
        tasks: list[tuple[Task | None, Memcg | None]] = [(event.trigger, event.trigger_memcg)]
        if isinstance(event, OomKill | UserspaceKill):
            tasks.append((event.victim, event.memcg))
        return any(self._unknown(task, memcg) for task, memcg in tasks)

    def _unknown(self, task: Task | None, memcg: Memcg | None) -> bool:
        ids = containers_of(memcg.path) if memcg else ()
        if ids:
            return any(self.known(one.id) is None for one in ids)
        return task is not None and shims.any_above(_start(task), self._proc)

    def _of(self, task: Task | None, memcg: Memcg | None, *, look: bool) -> list[Container]:
        """The containers of a task, the outermost first."""
        ids = containers_of(memcg.path) if memcg else ()
        above: list[Shim] = []
        if look and task and not (ids and all(self.known(one.id) for one in ids)):
            above = list(shims.above(_start(task), self._proc))
        if ids or not above:
            return [self._find(one.id, one.runtime, above) for one in ids]
        # No cgroup has its name: rootless, without a memory controller.
        unnamed = self._unnamed(above[0])
        return [unnamed] if unnamed else []

    def _find(self, container_id: str, runtime: str | None, above: list[Shim]) -> Container:
        known = self.known(container_id)
        if known:
            return known
        met = (self.meet(m, container_id) for m in above if self._may_have(m, container_id))
        seen: Iterator[Container | None] = (self.read(container_id, p) for p in self.places())
        found = next((one for one in chain(met, seen) if one), None)
        return found or Container(container_id, runtime, error="no file of a runtime tells of it")

    @staticmethod
    def _may_have(monitor: Shim, container_id: str) -> bool:
        return not monitor.alone or monitor.container_id == container_id

    def _unnamed(self, monitor: Shim) -> Container | None:
        """The container of a monitor; which one of a pod it is, a cgroup alone tells."""
        found = self.known(monitor.container_id) or self.meet(monitor)
        name, value = _SANDBOX
        return None if found and found.annotations.get(name) == value else found

    def _same_mounts_as_init(self) -> bool:
        try:
            of_init = (self._proc / "1/ns/mnt").readlink()
            return (self._proc / "self/ns/mnt").readlink() == of_init
        except OSError:
            return True


def _start(task: Task) -> int:
    """Where to begin among a task's ancestors: it may be gone itself."""
    return task.ppid or task.tgid or 0
