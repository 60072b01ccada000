"""The search for the pod of a container whose own bundle is gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_oom.linux.containers import shims
from otel_oom.linux.containers.cgroup_id import CONTAINER_ID
from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.linux.time_budget import TimeBudget
from otel_oom.linux.untrusted_file import list_untrusted_dir
from otel_oom.model.event_base import OomEvent

_MAX_S: Final = 1.0
_WINDOW_S: Final = 60.0
"""All searches in this time take no longer than two of them."""
_MAX_FOLDERS: Final = 4096


class PodSearch:
    """Reads the host's bundles into ``lookup``, as far as it has not read them yet."""

    def __init__(self, lookup: ContainerLookup, proc: Path = Path("/proc")) -> None:
        self._lookup = lookup
        self._proc = proc
        self._budget = TimeBudget(_MAX_S, _WINDOW_S)

    def read_pods(self, event: OomEvent) -> None:
        """Read bundles until the pods of an event are known, for a second at most."""
        if self._lookup.knows_pods(event) or self._budget.is_exhausted:
            return
        with self._budget.spend():
            until_s = time.monotonic() + _MAX_S
            for _ in self._read_unknown():
                if self._lookup.knows_pods(event) or time.monotonic() > until_s:
                    break

    def _read_unknown(self) -> Iterator[None]:
        for shim in shims.list_shims(self._proc):
            if shim.is_host and self._lookup.get(shim.container_id) is None:
                self._lookup.read_from_shim(shim)
                yield
        for bundle_dir in self._lookup.bundle_dirs():
            for name in list_untrusted_dir(bundle_dir.root, bundle_dir.parent, _MAX_FOLDERS):
                if CONTAINER_ID.fullmatch(name) and self._lookup.get(name) is None:
                    self._lookup.read_bundle(name, bundle_dir)
                    yield
