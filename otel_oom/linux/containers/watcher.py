"""Watch the bundle directories, and read each container as soon as its bundle is complete.

Those of the host's runtimes only: a user could keep the watcher busy with its own.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.linux.containers import shims
from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.cgroup_id import CONTAINER_ID
from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.linux.inotify import Inotify
from otel_oom.linux.untrusted_file import list_untrusted_dir

_MAX_TRIES: Final = 9
_FIRST_DELAY_S: Final = 0.01
"""A bundle is written some time after its directory: reads are retried at doubling delays."""

_MAX_PENDING: Final = 256
_MAX_POD_CONTAINERS: Final = 1024


class _PendingBundle(Struct, frozen=True):
    due: float
    tries: int
    container_id: str
    bundle_dir: BundleDir


class BundleWatcher:
    """The watched bundle directories, and the new bundles in them."""

    def __init__(self, lookup: ContainerLookup) -> None:
        """Add the containers that start to ``lookup``. Raises OSError as :class:`.Inotify`."""
        self._lookup = lookup
        self._inotify = Inotify()
        self._watched: dict[int, BundleDir] = {}
        self._pending: deque[_PendingBundle] = deque(maxlen=_MAX_PENDING)

    def __str__(self) -> str:
        folders = ", ".join(sorted(str(each.folder) for each in self._watched.values()))
        return folders or "no directory yet"

    def fileno(self) -> int:
        """Return a descriptor that is readable when :meth:`read_new` has work."""
        return self._inotify.fileno()

    def read_running(self, proc: Path = Path("/proc")) -> Iterator[None]:
        """Read the containers that run now; yields between two of them."""
        self.watch_all()
        for shim in filter(lambda shim: shim.is_host, shims.list_shims(proc)):
            self._lookup.read_from_shim(shim)
            self.watch_all()
            yield
            if not shim.single_container:
                bundles = shim.bundle_dir
                names = list_untrusted_dir(bundles.root, bundles.parent, _MAX_POD_CONTAINERS)
                for container_id in filter(CONTAINER_ID.fullmatch, names):
                    if not self._lookup.get(container_id):
                        self._lookup.read_bundle(container_id, shim.bundle_dir)
                        yield

    def watch_all(self) -> None:
        """Watch every directory that is known by now."""
        for bundle_dir in self._lookup.bundle_dirs():
            if bundle_dir not in self._watched.values():
                with suppress(OSError):
                    self._watched[self._inotify.add(bundle_dir.folder)] = bundle_dir

    def read_new(self) -> None:
        """Read the bundles that were created."""
        for number, name in self._inotify.read_entries():
            bundle_dir = self._watched.get(number)
            if bundle_dir and CONTAINER_ID.fullmatch(name):
                self._try(_PendingBundle(time.monotonic(), 0, name, bundle_dir))

    def retry_pending(self) -> float:
        """Read the bundles that are due; return the seconds until the next one is."""
        now = time.monotonic()
        for _ in range(len(self._pending)):
            pending = self._pending.popleft()
            if pending.due > now:
                self._pending.append(pending)
            else:
                self._try(pending)
        due = min((pending.due for pending in self._pending), default=math.inf)
        return max(0.0, due - now)

    def close(self) -> None:
        """Stop watching."""
        self._inotify.close()

    def _try(self, pending: _PendingBundle) -> None:
        bundle = self._lookup.read_bundle(pending.container_id, pending.bundle_dir)
        if bundle is None and pending.tries < _MAX_TRIES:
            due = time.monotonic() + _FIRST_DELAY_S * 2**pending.tries
            self._pending.append(replace(pending, due=due, tries=pending.tries + 1))
