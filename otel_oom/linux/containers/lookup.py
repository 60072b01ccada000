"""Look up the containers of an event, and read what their runtimes' files have of them.

The sources in their order: the directories of the host's runtimes, the host's shims, then the
runtimes of users and within containers. The configuration must name the cgroup of the kill. What
the host has of an id is never replaced, and refutes all others that claim the id for a cgroup.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux.containers import oci_bundle, shims
from otel_oom.linux.containers.bundle_dirs import (
    BundleDir,
    find_bundle_dirs,
    find_init_root,
    find_user_bundle_dirs,
)
from otel_oom.linux.containers.cgroup_id import (
    ContainerId,
    find_container_ids,
    list_tasks,
    resolve_containers,
)
from otel_oom.linux.containers.containerd_records import ContainerdRecords
from otel_oom.linux.containers.oci_bundle import Bundle
from otel_oom.linux.containers.pod_names import PodIndex, describe_gone
from otel_oom.linux.containers.shims import Shim
from otel_oom.linux.process import ProcessDir
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.event_base import OomEvent
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg, Task

TIMED_OUT: Final = "timeout while reading the files of its runtime"
"""The error of a container whose files may still be read later."""

NOT_FOUND: Final = "not found in the files of any runtime"
"""The error of a container whose bundle is gone, or in an unknown directory."""
_IN_ANOTHER_CGROUP: Final = "its runtime's files name another cgroup"
_MAX_CONTAINERS: Final = 2048
_MAX_BUNDLE_DIRS: Final = 64
_OTHERS_S: Final = 0.02
"""A search beside the host's own runtimes reads no further file after this time."""
_CONTAINER_TYPE: Final = "io.kubernetes.cri.container-type"
_INITIAL_CGROUP_NS: Final = 0xEFFFFFFB
"""PROC_CGROUP_INIT_INO (include/linux/proc_ns.h): the inode of the initial cgroup namespace."""


class ContainerLookup:
    """A cache of the host's containers, and the directories in which others may be found.

    Safe to use from several threads. A container stays after its end, until many others came.
    """

    def __init__(self, labels: frozenset[str], proc: Path = Path("/proc")) -> None:
        self._labels = labels
        self._proc = proc
        self._bundles: dict[str, Bundle] = {}
        self._bundle_dirs: dict[Path, BundleDir] = {}
        self._pods = PodIndex()
        self.records = ContainerdRecords(self._roots)
        self._lock = threading.Lock()
        of_init = ProcessDir(1, proc).namespace_inode("cgroup")
        # Where the host is itself a container, its runtimes do not see the begin of a path.
        self._has_kernel_pids = ProcessLookup(proc).usable
        self._has_whole_paths = of_init in {None, _INITIAL_CGROUP_NS}

    def get(self, container_id: str) -> Container | None:
        """Return a container of the host from the cache."""
        bundle = self._bundles.get(container_id)
        return bundle.container if bundle else None

    def add(self, bundle: Bundle) -> None:
        """Put a container of the host into the cache, unless it has one that is as complete."""
        container_id = bundle.container.id
        with self._lock:
            cached = self._bundles.pop(container_id, None)
            if cached and (cached.container.name or not bundle.container.name):
                bundle = cached
            self._bundles[container_id] = bundle
            self._pods.add(bundle)
            self.records.add_store(bundle)
            while len(self._bundles) > _MAX_CONTAINERS:
                del self._bundles[next(iter(self._bundles))]

    def bundle_dirs(self) -> list[BundleDir]:
        """Return the host's default directories that exist now, then those added."""
        default = {each.folder: each for root in self._roots for each in find_bundle_dirs(root)}
        with self._lock:
            return list({**default, **self._bundle_dirs}.values())

    @property
    def _roots(self) -> list[Path]:
        return sorted({Path("/"), find_init_root(self._proc)})

    def add_bundle_dir(self, bundle_dir: BundleDir) -> None:
        """Search ``bundle_dir``, of a runtime of the host, too from now on."""
        with self._lock:
            if len(self._bundle_dirs) < _MAX_BUNDLE_DIRS:
                self._bundle_dirs.setdefault(bundle_dir.folder, bundle_dir)

    def read_bundle(
        self, container_id: str, bundle_dir: BundleDir, runroot: Path | None = None
    ) -> Bundle | None:
        """Read a container of the host from ``bundle_dir`` into the cache, if it is there."""
        bundle = oci_bundle.read_bundle(container_id, bundle_dir, self._labels, runroot)
        if bundle and not bundle.container.error:
            self.add(bundle)
        return bundle

    def read_from_shim(self, shim: Shim, container_id: str | None = None) -> Bundle | None:
        """Read the container of a shim of the host, or another one of its pod, into the cache."""
        bundle = self._read_bundle_of_shim(shim, container_id or shim.container_id)
        if bundle:
            self.add_bundle_dir(shim.bundle_dir)
            self.add(bundle)
        return bundle

    def resolve(self, event: OomEvent, *, processes: bool) -> EventContainers:
        """Return the containers of an event; ``processes``: by its tasks' ancestors too."""
        return resolve_containers(
            event,
            lambda task, memcg: self.resolve_task(
                task if processes else None, memcg.path if memcg else ""
            ),
        )

    def resolve_cached(self, event: OomEvent) -> EventContainers:
        """Return the containers that paths and cache give, without reading a file."""
        return resolve_containers(
            event,
            lambda _, memcg: self._match_all(
                (each, self._bundles.get(each.id), TIMED_OUT)
                for each in find_container_ids(memcg.path if memcg else "")
            ),
        )

    def describe_gone(self, event: OomEvent, containers: EventContainers) -> EventContainers:
        """Return ``containers`` with what their pods have of those that were not found."""
        memcgs = (memcg for _, memcg in list_tasks(event) if memcg)
        ids = {each.id: each for memcg in memcgs for each in find_container_ids(memcg.path)}
        return EventContainers(
            *(
                (part.error == NOT_FOUND and part.id in ids and self._find_gone(ids[part.id]))
                or part
                if part
                else None
                for part in containers.parts
            )
        )

    def needs_io(self, event: OomEvent) -> bool:
        """Return whether :meth:`resolve` finds more than :meth:`resolve_cached`, at once."""
        return any(self._is_unknown(task, memcg) for task, memcg in list_tasks(event))

    def knows_pods(self, event: OomEvent) -> bool:
        """Return whether a container of each pod of an event was read, if it is in a pod."""
        return all(self._pods.has_pod(memcg.path) for _, memcg in list_tasks(event) if memcg)

    def _is_unknown(self, task: Task | None, memcg: Memcg | None) -> bool:
        ids = find_container_ids(memcg.path) if memcg else ()
        if ids:
            return any(each.id not in self._bundles for each in ids)
        return task is not None and self._has_kernel_pids and shims.has_shim(task, self._proc)

    def resolve_task(self, task: Task | None, cgroup_path: str) -> list[Container]:
        """Return the containers of a task in that memory cgroup, the outermost first."""
        ids = find_container_ids(cgroup_path)
        ancestors: list[Shim] = []
        known = ids and all(each.id in self._bundles for each in ids)
        if task and self._has_kernel_pids and not known:
            ancestors = shims.find_shims(task, self._proc)
        until_s = time.monotonic() + _OTHERS_S
        containers = self._match_all(
            (each, self._find_bundle(each, ancestors, until_s), NOT_FOUND) for each in ids
        )
        if ids or not ancestors:
            return containers
        # No cgroup is named after it: rootless, without a memory controller.
        unnamed = self._find_unnamed(ancestors, cgroup_path)
        return [unnamed] if unnamed else []

    def _match_all(
        self, candidates: Iterator[tuple[ContainerId, Bundle | None, str]]
    ) -> list[Container]:
        matches = (self._match(*candidate) for candidate in candidates)
        return [container for container in matches if container]

    def _match(
        self, container_id: ContainerId, bundle: Bundle | None, error: str
    ) -> Container | None:
        """Return the container if its bundle names the cgroup; else the bare id, where placed."""
        if bundle and self._fits(bundle, container_id):
            return bundle.container
        gone = self._find_gone(container_id) if bundle is None and error == NOT_FOUND else None
        if gone:
            return gone
        if not container_id.placed or (bundle and container_id.scope):
            return None
        if bundle:
            error = bundle.container.error or _IN_ANOTHER_CGROUP
        return Container(
            container_id.id, container_id.runtime, scope=container_id.scope, error=error
        )

    def _fits(self, bundle: Bundle, container_id: ContainerId) -> bool:
        whole = self._has_whole_paths and not bundle.container.scope
        return bundle.fits(container_id.cgroup, whole=whole)

    def _find_bundle(
        self, container_id: ContainerId, ancestors: Sequence[Shim], until_s: float
    ) -> Bundle | None:
        """Return the host's bundle of that id; without one, the first other one that fits."""
        of_host = self._bundles.get(container_id.id) or next(
            filter(None, self._read_host_bundles(container_id.id, ancestors)), None
        )
        if of_host:
            return of_host
        for bundle in self._read_other_bundles(container_id, ancestors):
            if bundle and self._fits(bundle, container_id):
                return bundle
            if time.monotonic() > until_s:
                break
        return None

    def _find_gone(self, container_id: ContainerId) -> Container | None:
        """Return a container of the host by its pod, and what names the pod."""
        if container_id.scope:
            return None
        with self._lock:
            sibling = self._pods.find_sibling(container_id, whole=self._has_whole_paths)
        return describe_gone(container_id, sibling, self._roots)

    def _read_host_bundles(
        self, container_id: str, ancestors: Sequence[Shim]
    ) -> Iterator[Bundle | None]:
        for bundle_dir in self.bundle_dirs():
            yield self.read_bundle(container_id, bundle_dir)
        for shim in ancestors:
            if shim.is_host and (not shim.single_container or shim.container_id == container_id):
                yield self.read_from_shim(shim, container_id)
        record = self.records.read_bundle(container_id)
        if record:
            self.add(record)
        yield record

    def _read_other_bundles(
        self, container_id: ContainerId, ancestors: Sequence[Shim]
    ) -> Iterator[Bundle | None]:
        for shim in ancestors:
            scope = None if shim.is_host else shim.find_scope(container_id.cgroup)
            if scope and (not shim.single_container or shim.container_id == container_id.id):
                bundle = self._read_bundle_of_shim(shim, container_id.id)
                yield bundle and replace(bundle, container=replace(bundle.container, scope=scope))
        root = find_init_root(self._proc)
        for bundle_dir in find_user_bundle_dirs(root, container_id.cgroup):
            yield oci_bundle.read_bundle(container_id.id, bundle_dir, self._labels)

    def _read_bundle_of_shim(self, shim: Shim, container_id: str) -> Bundle | None:
        bundle = oci_bundle.read_bundle(container_id, shim.bundle_dir, self._labels, shim.runroot)
        if bundle and shim.container_id == container_id and bundle.container.name is None:
            return replace(bundle, container=replace(bundle.container, name=shim.name))
        return bundle

    def _find_unnamed(self, ancestors: Sequence[Shim], cgroup_path: str) -> Container | None:
        """Return the container of the first shim that is believed about a cgroup.

        Of a pod's containers only a cgroup names one.
        """
        for shim in ancestors:
            scope = None if shim.outer else shim.find_scope(f"{cgroup_path}/")
            if scope is None:
                continue
            if scope:
                # The host's word on that id is another container's.
                bundle = (
                    None
                    if self.get(shim.container_id)
                    else self._read_bundle_of_shim(shim, shim.container_id)
                )
            else:
                bundle = self._bundles.get(shim.container_id) or self.read_from_shim(shim)
            container = bundle.container if bundle else None
            is_sandbox = container and container.annotations.get(_CONTAINER_TYPE) == "sandbox"
            return None if is_sandbox else container
        return None
