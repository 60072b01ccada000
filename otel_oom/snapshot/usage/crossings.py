"""The kernel's own signals that memory becomes short: noted with their time, without sampling.

On cgroup v2 ``memory.events`` becomes readable when a counter rises. v1 signals when usage crosses
a threshold, and counts hits of its limits. The host's pressure has a PSI
trigger (Documentation/accounting/psi.rst). After a signal, its file is not waited for until the
next round: a cgroup that stays at its limit has a hundred a second.
"""

from __future__ import annotations

import os
import select
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from otel_oom.linux.clock import boottime_ns
from otel_oom.model.units import NS_PER_S, PAGE_BYTES
from otel_oom.model.usage import Crossing
from otel_oom.snapshot.usage.cgroup_tree import CgroupNode
from otel_oom.snapshot.usage.open_files import HOLDER_SHARE, WANTED_SHARE

_MAX_WATCHED: Final = 64
_MAX_OF_HOLDER: Final = _MAX_WATCHED // HOLDER_SHARE
_UNWATCH_SHARE: Final = 0.3
_THRESHOLD_SHARE: Final = 0.9
_SAME_NS: Final = 60 * NS_PER_S
"""Signals of one kind that follow each other within this time are one crossing."""
_MAX_CROSSINGS: Final = 256
_EVENTS_BYTES: Final = 512
_HIT_FILES: Final = ("memory.failcnt", "memory.memsw.failcnt")
"""Hits of the limit of memory, and of that of memory and swap together."""
_KINDS: Final = (b"high", b"max")
_HOST_TRIGGER: Final = b"some 200000 2000000\0"
"""Tasks waited for memory in 200 ms of 2 s; without CAP_SYS_RESOURCE a multiple of 2 s only."""


class _Watch:
    """The files of one watched cgroup, and its counters of before."""

    __slots__ = ("counts", "hit_files", "node", "signal")

    def __init__(self, node: CgroupNode, signal: int, hit_files: Sequence[int]) -> None:
        self.node, self.signal, self.hit_files = node, signal, hit_files
        self.counts: dict[str, int] = {}


class CrossingWatch:
    """Crossings of the host and of the cgroups that are nearest to their limit."""

    def __init__(
        self,
        epoll: select.epoll,
        path_of: Callable[[CgroupNode], str],
        holder_of: Callable[[CgroupNode], str],
        *,
        v1: bool,
    ) -> None:
        """Have ``epoll`` report signals; their descriptors go to :meth:`on_signal`."""
        self._holder_of = holder_of
        self._holders: Counter[str] = Counter()
        """Watched cgroups by holder."""
        self._epoll = epoll
        self._path_of = path_of
        self._v1 = v1
        self._watches: dict[int, _Watch] = {}
        """By the descriptor of the signal."""
        self._watched: set[CgroupNode] = set()
        self._silent: list[int] = []
        self._crossings: deque[tuple[CgroupNode | None, Crossing]] = deque(maxlen=_MAX_CROSSINGS)
        self._last: dict[tuple[CgroupNode | None, str], int] = {}
        self._pressure = self._open_pressure()

    def close(self) -> None:
        """Close all files."""
        for signal in list(self._watches):
            self._unwatch(signal)
        if self._pressure is not None:
            os.close(self._pressure)

    def find(self, nodes: Iterable[CgroupNode | None]) -> tuple[Crossing, ...]:
        """Return the crossings of some cgroups, ``None`` for the host, oldest first."""
        wanted = set(nodes)
        # A copy, as the thread that samples may add one meanwhile.
        return tuple(crossing for node, crossing in self._crossings.copy() if node in wanted)

    def on_signal(self, descriptor: int) -> None:
        """Note what a readable descriptor signals."""
        self._silent.append(descriptor)
        watch = self._watches.get(descriptor)
        if descriptor == self._pressure:
            self._add(None, "pressure")
        elif watch is not None and self._v1:
            with suppress(BlockingIOError):
                os.eventfd_read(descriptor)
            # It signals a way down as well.
            if (watch.node.limit_pages or 0) * _THRESHOLD_SHARE <= _read_pages(watch.node):
                self._add(watch.node, "threshold")
        elif watch is not None:
            self._compare_events(watch)

    def begin_round(self, open_nodes: Iterable[CgroupNode]) -> None:
        """Watch the cgroups that are near their limit, and switch signals on again."""
        for descriptor in self._silent:
            with suppress(OSError):
                self._epoll.modify(descriptor, self._mask | select.EPOLLONESHOT)
        self._silent.clear()
        for signal, watch in list(self._watches.items()):
            if watch.node.descriptor is None or watch.node.share < _UNWATCH_SHARE:
                self._unwatch(signal)
            elif watch.hit_files:
                self._compare_hits(watch)
        for node in open_nodes:
            if node.share < WANTED_SHARE or not node.own_limit_pages or node in self._watched:
                continue
            if len(self._watched) < _MAX_WATCHED or self._unwatch_greedy(self._holder_of(node)):
                with suppress(OSError):
                    self._watch(node)
        if len(self._last) > _MAX_CROSSINGS:
            self._last.clear()

    @property
    def _mask(self) -> int:
        return select.EPOLLIN if self._v1 else select.EPOLLPRI

    def _unwatch_greedy(self, holder: str) -> bool:
        """End a watch of the holder with the most, if it has more than its share."""
        if self._holders[holder] >= _MAX_OF_HOLDER:
            return False
        ((largest, count),) = self._holders.most_common(1)
        if count <= _MAX_OF_HOLDER:
            return False
        farthest = min(
            (watch for watch in self._watches.values() if self._holder_of(watch.node) == largest),
            key=lambda watch: watch.node.share,
        )
        self._unwatch(farthest.signal)
        return True

    def _open_pressure(self) -> int | None:
        try:
            descriptor = os.open("/proc/pressure/memory", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            os.write(descriptor, _HOST_TRIGGER)
            self._epoll.register(descriptor, select.EPOLLPRI | select.EPOLLONESHOT)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def _watch(self, node: CgroupNode) -> None:
        hit_files: list[int] = []
        if self._v1:
            signal = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            # Below a mount that is only readable, hits of the limit are still counted.
            with suppress(OSError):
                self._register_threshold(node, signal)
            for file in _HIT_FILES:
                # Without accounting of swap, the second is not there.
                with suppress(OSError):
                    path = f"{node.folder}/{file}"
                    hit_files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        else:
            signal = os.open(f"{node.folder}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        watch = self._watches[signal] = _Watch(node, signal, hit_files)
        self._watched.add(node)
        self._holders[self._holder_of(node)] += 1
        try:
            watch.counts = {"max": _read_hits(watch)} if self._v1 else _read_events(signal)
            self._epoll.register(signal, self._mask | select.EPOLLONESHOT)
        except OSError:
            self._unwatch(signal)
            raise

    def _register_threshold(self, node: CgroupNode, signal: int) -> None:
        """Register a threshold (Documentation/admin-guide/cgroup-v1/memory.rst, section 9)."""
        threshold = int((node.own_limit_pages or 0) * _THRESHOLD_SHARE) * PAGE_BYTES
        control = os.open(f"{node.folder}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(control, b"%d %d %d" % (signal, node.descriptor or 0, threshold))
        finally:
            os.close(control)

    def _unwatch(self, signal: int) -> None:
        watch = self._watches.pop(signal)
        self._watched.discard(watch.node)
        self._holders -= Counter([self._holder_of(watch.node)])
        # The kernel ends a threshold with its event descriptor.
        for descriptor in (watch.signal, *watch.hit_files):
            os.close(descriptor)

    def _compare_events(self, watch: _Watch) -> None:
        with suppress(OSError):
            counts = _read_events(watch.signal)
            for kind, count in counts.items():
                if count > watch.counts.get(kind, count):
                    self._add(watch.node, kind)
            watch.counts = counts

    def _compare_hits(self, watch: _Watch) -> None:
        with suppress(OSError):
            count = _read_hits(watch)
            if count > watch.counts["max"]:
                self._add(watch.node, "max")
            watch.counts["max"] = count

    def _add(self, node: CgroupNode | None, kind: str) -> None:
        now = boottime_ns()
        last = self._last.get((node, kind))
        self._last[node, kind] = now
        if last is None or now - last > _SAME_NS:
            path = self._path_of(node) if node else None
            self._crossings.append((node, Crossing(now, path, kind)))


def _read_hits(watch: _Watch) -> int:
    return sum(int(os.pread(file, _EVENTS_BYTES, 0)) for file in watch.hit_files)


def _read_events(descriptor: int) -> dict[str, int]:
    words = os.pread(descriptor, _EVENTS_BYTES, 0).split()
    counts = zip(words[::2], words[1::2], strict=False)
    return {kind.decode(): int(count) for kind, count in counts if kind in _KINDS}


def _read_pages(node: CgroupNode) -> int:
    try:
        return int(os.pread(node.descriptor or -1, _EVENTS_BYTES, 0)) // PAGE_BYTES
    except (OSError, ValueError):
        return 0
