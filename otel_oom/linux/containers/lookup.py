"""Look up the containers of an event, and read what their runtimes' files have of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux.containers import oci_bundle, shims
from otel_oom.linux.containers.bundle_dirs import BundleDir, find_bundle_dirs
from otel_oom.linux.containers.cgroup_id import (
    containers_in_path,
    find_container_ids,
    resolve_containers,
)
from otel_oom.linux.containers.shims import Shim
from otel_oom.model.event_base import OomEvent
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg, Task

TIMED_OUT: Final = "timeout while reading the files of its runtime"
"""The error of a container whose files may still be read later."""

_NOT_FOUND: Final = "not found in the files of any runtime"
_MAX_CONTAINERS: Final = 2048
_MAX_BUNDLE_DIRS: Final = 64
_CONTAINER_TYPE: Final = "io.kubernetes.cri.container-type"


class ContainerLookup:
    """A cache of containers, and the directories in which others may be found.

    Safe to use from several threads. A container stays after its end, until many others came.
    """

    def __init__(self, labels: frozenset[str], proc: Path = Path("/proc")) -> None:
        self._labels = labels
        self._proc = proc
        self._containers: dict[str, Container] = {}
        self._bundle_dirs: dict[Path, BundleDir] = {}
        self._lock = threading.Lock()

    def get(self, container_id: str) -> Container | None:
        """Return a container from the cache."""
        return self._containers.get(container_id)

    def add(self, container: Container) -> Container:
        """Put ``container`` into the cache, unless it lacks the name that the cached one has."""
        with self._lock:
            cached = self._containers.pop(container.id, None)
            if cached and cached.name and not container.name:
                container = cached
            self._containers[container.id] = container
            while len(self._containers) > _MAX_CONTAINERS:
                del self._containers[next(iter(self._containers))]
        return container

    def bundle_dirs(self) -> list[BundleDir]:
        """Return the default directories that exist now, and those added."""
        roots = (Path("/"),) if self._same_mounts_as_init() else (Path("/"), self._proc / "1/root")
        found = {each.folder: each for root in roots for each in find_bundle_dirs(root)}
        with self._lock:
            return list({**found, **self._bundle_dirs}.values())

    def add_bundle_dir(self, bundle_dir: BundleDir) -> None:
        """Search ``bundle_dir`` too from now on."""
        with self._lock:
            if len(self._bundle_dirs) < _MAX_BUNDLE_DIRS:
                self._bundle_dirs.setdefault(bundle_dir.folder, bundle_dir)

    def read_bundle(self, container_id: str, bundle_dir: BundleDir) -> Container | None:
        """Read a container from ``bundle_dir`` into the cache, if it is there."""
        container = oci_bundle.read_bundle(container_id, bundle_dir, self._labels)
        return self.add(container) if container else None

    def read_from_shim(self, shim: Shim, container_id: str | None = None) -> Container | None:
        """Read the container of a shim, or another one of its pod, into the cache."""
        wanted = container_id or shim.container_id
        container = oci_bundle.read_bundle(wanted, shim.bundle_dir, self._labels, shim.runroot)
        if container is None:
            return None
        self.add_bundle_dir(shim.bundle_dir)
        if shim.name and shim.container_id == wanted and container.name is None:
            container = replace(container, name=shim.name)
        return self.add(container)

    def resolve(self, event: OomEvent, *, processes: bool) -> EventContainers:
        """Return the containers of an event; ``processes``: by its tasks' ancestors too."""
        return resolve_containers(
            event, lambda task, memcg: self._resolve_task(task, memcg, processes=processes)
        )

    def resolve_cached(self, event: OomEvent) -> EventContainers:
        """Return the containers that paths and cache give, without reading a file."""
        return resolve_containers(
            event,
            lambda _, memcg: [
                self.get(each.id) or replace(each, error=TIMED_OUT)
                for each in containers_in_path(memcg)
            ],
        )

    def needs_io(self, event: OomEvent) -> bool:
        """Return whether :meth:`resolve` finds more than :meth:`resolve_cached`, at once."""
        tasks: list[tuple[Task | None, Memcg | None]] = [(event.trigger, event.trigger_memcg)]
        if isinstance(event, OomKill | UserspaceKill):
            tasks.append((event.victim, event.memcg))
        return any(self._is_unknown(task, memcg) for task, memcg in tasks)

    def _is_unknown(self, task: Task | None, memcg: Memcg | None) -> bool:
        ids = find_container_ids(memcg.path) if memcg else ()
        if ids:
            return any(self.get(each.id) is None for each in ids)
        return task is not None and shims.has_shim(_first_ancestor(task), self._proc)

    def _resolve_task(
        self, task: Task | None, memcg: Memcg | None, *, processes: bool
    ) -> list[Container]:
        """Return the containers of a task, the outermost first."""
        ids = find_container_ids(memcg.path) if memcg else ()
        ancestors: list[Shim] = []
        if processes and task and not (ids and all(self.get(each.id) for each in ids)):
            ancestors = list(shims.find_shims(_first_ancestor(task), self._proc))
        if ids or not ancestors:
            return [self._find(each.id, each.runtime, ancestors) for each in ids]
        # No cgroup is named after it: rootless, without a memory controller.
        unnamed = self._find_by_shim(ancestors[0])
        return [unnamed] if unnamed else []

    def _find(self, container_id: str, runtime: str | None, ancestors: list[Shim]) -> Container:
        cached = self.get(container_id)
        if cached:
            return cached
        by_shim = (
            self.read_from_shim(shim, container_id)
            for shim in ancestors
            if not shim.single_container or shim.container_id == container_id
        )
        by_dir: Iterator[Container | None] = (
            self.read_bundle(container_id, each) for each in self.bundle_dirs()
        )
        found = next((each for each in chain(by_shim, by_dir) if each), None)
        return found or Container(container_id, runtime, error=_NOT_FOUND)

    def _find_by_shim(self, shim: Shim) -> Container | None:
        """Return the container of a shim; of a pod's containers only a cgroup names one."""
        container = self.get(shim.container_id) or self.read_from_shim(shim)
        is_sandbox = container and container.annotations.get(_CONTAINER_TYPE) == "sandbox"
        return None if is_sandbox else container

    def _same_mounts_as_init(self) -> bool:
        try:
            of_init = (self._proc / "1/ns/mnt").readlink()
            return (self._proc / "self/ns/mnt").readlink() == of_init
        except OSError:
            return True


def _first_ancestor(task: Task) -> int:
    # The task itself may be gone.
    return task.ppid or task.tgid or 0
