"""The records of the host's containerds, of containers with and without a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux.containers import oci_bundle
from otel_oom.linux.containers.containerd_store import list_stores
from otel_oom.linux.containers.oci_bundle import Bundle
from otel_oom.linux.containers.pod_names import add_restart_count
from otel_oom.model.snapshot import Container

_MAX_STORES: Final = 64


class ContainerdRecords:
    """The stores in the default directories, and those of running containers."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._stores = tuple(list_stores(roots))

    def add_store(self, bundle: Bundle) -> None:
        """Add the store of the containerd that made a bundle."""
        store = bundle.store
        if store and store not in self._stores and len(self._stores) < _MAX_STORES:
            self._stores = (*self._stores, store)

    def read_bundle(self, container_id: str) -> Bundle | None:
        """Read what a bundle would have, and the id of the image and the number of restarts."""
        bundles = (oci_bundle.read_record(container_id, store) for store in self._stores)
        return next(filter(None, bundles), None)

    def add_details(self, container: Container) -> Container:
        """Return a container with what containerd has in no bundle."""
        if container.scope or container.runtime != "containerd":
            return container
        bundle = None if container.image_id else self.read_bundle(container.id)
        if bundle:
            container = replace(
                container,
                image_id=bundle.container.image_id,
                annotations={**bundle.container.annotations, **container.annotations},
            )
        return add_restart_count(container, self._roots)
