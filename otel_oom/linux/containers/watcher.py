"""The containers that run and those that come, read as soon as their bundles are there."""

from __future__ import annotations

import math
import os
import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from otel_oom.linux.containers import shims
from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.linux.inotify import Inotify

_TRIES: Final = 9
_FIRST_TRY_S: Final = 0.01
"""A bundle is written some time after its folder: it is tried for at doubling distances."""

_MOST_PENDING: Final = 256
_MOST_OF_A_PLACE: Final = 1024
_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Pending:
    """A container whose bundle is not whole yet."""

    due: float
    tries: int
    container_id: str
    place: BundleDir


class Watch:
    """The folders of bundles, and what is new in them."""

    def __init__(self, finder: ContainerLookup) -> None:
        """Tell ``finder`` of the containers that come.

        Raises:
            OSError: the host allows no watch.
        """
        self._finder = finder
        self._inotify = Inotify()
        self._places: dict[int, BundleDir] = {}
        self._pending: deque[_Pending] = deque(maxlen=_MOST_PENDING)

    def __str__(self) -> str:
        """The folders that are watched."""
        folders = ", ".join(sorted(str(place.folder) for place in self._places.values()))
        return folders or "no folder yet"

    def fileno(self) -> int:
        """Readable when :meth:`take` has something to do."""
        return self._inotify.fileno()

    def fill(self, proc: Path = Path("/proc")) -> Iterator[None]:
        """Know what runs now; other work may be done at each step."""
        self.watch()
        for monitor in shims.running(proc):
            self._finder.meet(monitor)
            self.watch()
            yield
            if not monitor.alone:
                for container_id in _ids(monitor.place.folder):
                    if not self._finder.known(container_id):
                        self._finder.read(container_id, monitor.place)
                        yield

    def watch(self) -> None:
        """Watch every folder that is known by now."""
        for place in self._finder.places():
            if place not in self._places.values():
                with suppress(OSError):
                    self._places[self._inotify.add(place.folder)] = place

    def take(self) -> None:
        """Take what is new."""
        for number, name in self._inotify.read():
            place = self._places.get(number)
            if place and _ID.fullmatch(name):
                self._try(_Pending(time.monotonic(), 0, name, place))

    def try_again(self) -> float:
        """Read the bundles that are due; the seconds until the next ones are."""
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
        """Watch nothing any more."""
        self._inotify.close()

    def _try(self, pending: _Pending) -> None:
        found = self._finder.read(pending.container_id, pending.place)
        if found is None and pending.tries < _TRIES:
            due = time.monotonic() + _FIRST_TRY_S * 2**pending.tries
            self._pending.append(replace(pending, due=due, tries=pending.tries + 1))


def _ids(folder: Path) -> list[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        names = (entry.name for entry in entries if _ID.fullmatch(entry.name))
        return [name for name, _ in zip(names, range(_MOST_OF_A_PLACE), strict=False)]
    return []
