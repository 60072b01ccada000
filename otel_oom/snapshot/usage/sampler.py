"""Sample usage within a budget of CPU: cgroups near their limit each time, the others in turn.

A read of an open file takes 0.7 µs, one with open(2) and close(2) 6 µs. An open file costs the
kernel 4 KiB for its text, so few are kept open: those of the cgroups that are nearest to a limit.
Only ``memory.current`` or ``memory.usage_in_bytes`` is read: ``memory.stat`` would flush counters
of all CPUs.
"""

from __future__ import annotations

import os
import resource
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.model.units import KIB, PAGE_BYTES
from otel_oom.snapshot.usage.cgroup_files import read_creation_time, read_number
from otel_oom.snapshot.usage.cgroup_tree import CgroupNode, CgroupTree
from otel_oom.snapshot.usage.open_files import OpenFiles
from otel_oom.snapshot.usage.sample_table import SampleTable

CPU_SHARE: Final = 0.0004
"""Share of a core that sampling may take; waking up costs some more."""
_START_NS: Final = 500_000_000
"""CPU time that the first walk over all cgroups may take beyond that, once."""
_MAX_WALK_NS: Final = 20_000_000
_WALK_SHARE: Final = 0.4
"""Share of a round's time for the walk over the cgroups; the rest is for samples."""

MAX_NODES: Final = 16_384
_MAX_COLUMNS: Final = 2048
_MAX_OPEN: Final = 256
_OPEN_SHARE: Final = 4
"""At most this part of RLIMIT_NOFILE is used."""
_CHECK_EVERY: Final = 8
_MIN_TURNS: Final = 8
"""Cgroups that are sampled in each round whatever it costs: a machine can be so slow
that a round without any takes the whole budget."""
_MAX_PROMOTED: Final = 16
_GONE_ROUNDS: Final = 12
"""Rounds for which the samples of a cgroup stay that is gone: its kill may come late."""

_READ_BYTES: Final = 32
_MEMINFO_BYTES: Final = 512


class UsageSampler:
    """Samples of the host and of the cgroups that have a limit at or above them."""

    def __init__(
        self,
        mount: CgroupMount | None,
        interval_ns: int,
        sample_count: int,
        *,
        cpu_share: float = CPU_SHARE,
        max_open: int = _MAX_OPEN,
    ) -> None:
        """Keep ``sample_count`` samples, ``interval_ns`` apart; without ``mount`` of the host.

        ``cpu_share`` is that of a core which sampling may take, ``max_open`` the number of files
        that stay open.
        """
        self.interval_ns = interval_ns
        self.table = SampleTable(sample_count, _MAX_COLUMNS)
        self.host_column = self.table.add_column()
        self.host_pages: int | None = None
        self.open_nodes: list[CgroupNode] = []
        self.sampled_count = 0
        """Cgroups of which the last round has a sample."""
        self.limited_count = 0
        self.tree = (
            CgroupTree(mount, MAX_NODES, self._add, self._on_gone) if mount is not None else None
        )
        self._usage_file = "/memory.usage_in_bytes" if mount and mount.v1 else "/memory.current"
        soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._max_open = min(max_open, soft_limit // _OPEN_SHARE)
        self._rotation: deque[CgroupNode] = deque()
        self._gone: dict[str, tuple[int, CgroupNode]] = {}
        self._candidates: list[CgroupNode] = []
        self._tick = 0
        self._share_ns = int(interval_ns * cpu_share)
        self._start_ns = _START_NS
        self._credit_ns = 0
        self._deadline_ns = 0
        self._meminfo = os.open("/proc/meminfo", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close all files."""
        os.close(self._meminfo)
        for node in self.open_nodes:
            self._close_file(node)
        if self.tree is not None:
            self.tree.close()

    @property
    def samples_less(self) -> bool:
        """Return whether the budget does not allow a sample of each cgroup in each round."""
        return self.sampled_count < self.limited_count

    def list_sampled(self) -> Iterator[CgroupNode]:
        """Yield the cgroups of which the last round has a sample."""
        yield from self.open_nodes
        for node in self._rotation:
            if node.descriptor is None and node.sampled_tick == self._tick:
                yield node

    def find(self, path: str) -> CgroupNode | None:
        """Return the cgroup at ``path``, as the kernel shows it, or that which was there."""
        if self.tree is None:
            return None
        folder = self.tree.folder_of(path)
        gone = self._gone.get(folder)
        return self.tree.nodes.get(folder) or (gone[1] if gone else None)

    def read_creation_time(self, path: str, inode: int | None) -> int | None:
        """Return the latest time at which the cgroup can have been made; ``None`` if it is gone."""
        folder = self.tree.folder_of(path) if self.tree is not None else ""
        return read_creation_time(folder, inode) if folder else None

    def path_of(self, node: CgroupNode) -> str:
        """Return the path of a cgroup, as the kernel shows it."""
        return self.tree.path_of(node) if self.tree is not None else node.folder

    def holder_of(self, node: CgroupNode) -> str:
        """Return the holder of a cgroup."""
        return self.tree.holder_of(node) if self.tree is not None else node.folder

    def sample(self, tick: int, is_paused: Callable[[], bool]) -> None:
        """Take the samples of ``tick``, a count of intervals, until the budget is used.

        The round ends early once ``is_paused``.
        """
        begun_ns = time.thread_time_ns()
        self._tick = tick
        self._credit_ns = min(self._credit_ns + self._share_ns, self._share_ns)
        self.table.begin_row(tick)
        self._forget_gone()
        self._sample_host()
        self._sample_open()
        walk_ns = 0 if is_paused() else self.walk()
        self._deadline_ns = begun_ns + walk_ns + max(0, self._credit_ns)
        self._sample_others(is_paused)
        self._promote()
        self._credit_ns -= time.thread_time_ns() - begun_ns - walk_ns

    def walk(self) -> int:
        """Search for new cgroups; return the CPU time that the first walk took."""
        tree = self.tree
        if tree is None:
            return 0
        begun_ns = time.thread_time_ns()
        start_ns = 0 if tree.is_complete else min(self._start_ns, _MAX_WALK_NS)
        limit_ns = max(start_ns, int(self._credit_ns * _WALK_SHARE))
        tree.visit(lambda: time.thread_time_ns() - begun_ns < limit_ns)
        spent_ns = time.thread_time_ns() - begun_ns if start_ns else 0
        self._start_ns -= spent_ns
        return spent_ns

    def _sample_host(self) -> None:
        """Sample the memory that is not available: total minus MemAvailable."""
        with suppress(OSError, ValueError, IndexError):
            # MemTotal, MemFree and MemAvailable come first (fs/proc/meminfo.c).
            words = os.pread(self._meminfo, _MEMINFO_BYTES, 0).split(None, 8)
            if words[6] == b"MemAvailable:" and self.host_column is not None:
                self.host_pages = int(words[1]) * KIB // PAGE_BYTES
                used = (int(words[1]) - int(words[7])) * KIB // PAGE_BYTES
                self.table.set_sample(self.host_column, used)

    def _sample_open(self) -> None:
        gone = []
        for node in self.open_nodes:
            try:
                self._store(node, int(os.pread(node.descriptor or -1, _READ_BYTES, 0)))
            except (OSError, ValueError):
                # ENODEV: the cgroup was removed.
                gone.append(node)
        for node in gone:
            if self.tree is not None and not node.is_gone:
                self.tree.remove(node)
        self.sampled_count = len(self.open_nodes)

    def _sample_others(self, is_paused: Callable[[], bool]) -> None:
        is_full = len(self.open_nodes) >= self._max_open
        files = self._list_open_files() if is_full else None
        for number in range(len(self._rotation)):
            if number % _CHECK_EVERY == 0 and (
                is_paused() or (number >= _MIN_TURNS and time.thread_time_ns() >= self._deadline_ns)
            ):
                break
            node = self._rotation.popleft()
            if node.is_gone or node.limit_pages is None:
                node.in_rotation = False
                continue
            if node.descriptor is not None:
                self._rotation.append(node)
                continue
            value = read_number(node.folder + self._usage_file)
            if value is None:
                node.in_rotation = False
                # Below a cgroup with a limit, one without the memory controller has no such file.
                if self.tree is not None and read_creation_time(node.folder) is None:
                    self.tree.remove(node)
                continue
            self._store(node, value)
            self._rotation.append(node)
            self.sampled_count += 1
            if files is None or files.wants_one(node):
                self._candidates.append(node)
        self.limited_count = len(self._rotation)

    def _store(self, node: CgroupNode, usage_bytes: int) -> None:
        node.pages = usage_bytes // PAGE_BYTES
        node.sampled_tick = self._tick
        if node.column is None:
            node.column = self.table.add_column()
        if node.column is not None:
            self.table.set_sample(node.column, node.pages)

    def _promote(self) -> None:
        """Open the files of the cgroups that are nearest to their limit."""
        candidates = sorted(self._candidates, key=lambda node: -node.share)
        self._candidates = []
        files: OpenFiles | None = None
        promoted = 0
        for node in candidates:
            if node.is_gone:
                continue
            if len(self.open_nodes) >= self._max_open:
                if promoted >= _MAX_PROMOTED:
                    return
                files = files or self._list_open_files()
                farthest = files.take_over(node)
                if farthest is None:
                    continue
                self._close_file(farthest)
                promoted += 1
            self._open_file(node)

    def _list_open_files(self) -> OpenFiles:
        return OpenFiles(self.open_nodes, self._max_open, self.holder_of)

    def _open_file(self, node: CgroupNode) -> None:
        with suppress(OSError):
            path = node.folder + self._usage_file
            node.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.open_nodes.append(node)
            if node.column is None:
                node.column = self._take_over_column()

    def _take_over_column(self) -> int | None:
        """Return a free column, else that of a cgroup that is far from its limit."""
        column = self.table.add_column()
        if column is None:
            for node in self._rotation:
                if node.column is not None:
                    column, node.column = node.column, None
                    self.table.release_column(column)
                    return self.table.add_column()
        return column

    def _close_file(self, node: CgroupNode) -> None:
        if node.descriptor is not None:
            os.close(node.descriptor)
            node.descriptor = None
        if node in self.open_nodes:
            self.open_nodes.remove(node)

    def _add(self, node: CgroupNode) -> None:
        """Have a cgroup take its turns."""
        if not node.in_rotation:
            node.in_rotation = True
            if node.is_fresh:
                self._rotation.appendleft(node)
            else:
                self._rotation.append(node)

    def _on_gone(self, node: CgroupNode) -> None:
        self._close_file(node)
        if node.column is not None:
            self._forget(self._gone.pop(node.folder, (0, None))[1])
            self._gone[node.folder] = (self._tick + _GONE_ROUNDS, node)

    def _forget_gone(self) -> None:
        while self._gone and next(iter(self._gone.values()))[0] <= self._tick:
            self._forget(self._gone.pop(next(iter(self._gone)))[1])

    def _forget(self, node: CgroupNode | None) -> None:
        if node is not None and node.column is not None:
            column, node.column = node.column, None
            self.table.release_column(column)
