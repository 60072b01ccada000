"""Find cgroups that come near their limit, once for each approach.

Usage alone is no sign: page cache fills each cgroup up to its limit, and the kernel drops it. So
inactive page cache does not count. It is in ``memory.stat``, which is read at an approach only.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from otel_oom.linux.cgroupfs import CgroupMount, read_flat_keyed
from otel_oom.linux.clock import boot_id, boot_to_unix_offset_ns, boottime_ns
from otel_oom.model.near_limit import NearLimit
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import Capture, Memcg, OomControl
from otel_oom.model.units import NS_PER_S
from otel_oom.model.usage import UsageHistory
from otel_oom.snapshot.cgroup_stats import read_memcg_stats
from otel_oom.snapshot.host_stats import read_host_memory
from otel_oom.snapshot.process_scanner import ProcessScanner
from otel_oom.snapshot.usage.cgroup_tree import CgroupNode
from otel_oom.snapshot.usage.history import SeriesEnd, build_cgroup_series, build_host_series
from otel_oom.snapshot.usage.sampler import UsageSampler

_LOG = logging.getLogger(__name__)

SOURCE: Final = "usage"
_PERCENT: Final = 100
_HYSTERESIS_PERCENT: Final = 10
"""Usage must fall this far below the threshold before the next approach."""
_MAX_A_ROUND: Final = 4
"""Cgroups that are examined in a round; the others wait for the next one.

The holders take turns: one that has many cgroups at the threshold delays no other.
"""
_MAX_OF_HOLDER: Final = 4
"""Events of a holder in a period; further ones are dropped and counted."""
_PERIOD_NS: Final = 60 * NS_PER_S
_RECHECK_ROUNDS: Final = 12
"""Rounds until a cgroup is examined again that is full of page cache, or can't be read."""


class NearLimitWatch:
    """The approaches of a limit; the thread that samples calls it after each round."""

    def __init__(
        self,
        mount: CgroupMount,
        sampler: UsageSampler,
        threshold_percent: int,
        record: Callable[[NearLimit, Snapshot], None],
    ) -> None:
        """Pass each approach of ``threshold_percent`` of a limit to ``record``."""
        self._mount = mount
        self._sampler = sampler
        self._threshold_percent = threshold_percent
        self._record = record
        self._scanner = ProcessScanner(mount)
        self._boot_id = boot_id()
        self._hook = "memory.usage_in_bytes" if mount.v1 else "memory.current"
        self._round = 0
        self._recheck_rounds: dict[str, int] = {}
        self._last_turns: dict[str, int] = {}
        """The round in which a holder had its last turn."""
        self._period = 0
        self._recorded: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        """Events by holder, in this period."""

    def check(self, nodes: Iterable[CgroupNode], is_paused: Callable[[], bool]) -> None:
        """Record the approaches among ``nodes``; none while ``is_paused``."""
        self._round += 1
        self._begin_period(boottime_ns() // _PERIOD_NS)
        for node in self._order(filter(self._is_due, nodes))[:_MAX_A_ROUND]:
            if is_paused():
                return
            self._last_turns[self._sampler.holder_of(node)] = self._round
            self._recheck_rounds[node.folder] = self._round + _RECHECK_ROUNDS
            self._examine(node)
        if len(self._recheck_rounds) > self._sampler.limited_count:
            self._recheck_rounds.clear()
        if len(self._last_turns) > self._sampler.limited_count:
            self._last_turns.clear()

    def _order(self, due: Iterable[CgroupNode]) -> list[CgroupNode]:
        """Have the holders take turns, from the one whose last turn is the longest ago.

        Of a holder, new approaches come first, then the longest wait: many cgroups may be full of
        page cache.
        """
        counts: Counter[str] = Counter()
        turns: list[tuple[int, int, CgroupNode]] = []
        for node in sorted(due, key=lambda node: self._recheck_rounds.get(node.folder, 0)):
            holder = self._sampler.holder_of(node)
            turns.append((counts[holder], self._last_turns.get(holder, 0), node))
            counts[holder] += 1
        return [node for *_, node in sorted(turns, key=lambda turn: turn[:2])]

    def _begin_period(self, period: int) -> None:
        if period == self._period:
            return
        if self._dropped:
            ((holder, count),) = self._dropped.most_common(1)
            _LOG.warning(
                "Memory near limits: events dropped: dropped=%d holders=%d most=%d of %s",
                self._dropped.total(),
                len(self._dropped),
                count,
                holder,
            )
        self._period = period
        self._recorded.clear()
        self._dropped.clear()

    def _is_due(self, node: CgroupNode) -> bool:
        """Return whether a cgroup must be examined; forget its approach once it is far."""
        if node.own_limit_pages is None:
            return False
        percent = node.pages * _PERCENT / max(node.own_limit_pages, 1)
        if percent < self._threshold_percent - _HYSTERESIS_PERCENT:
            node.is_near = False
        if percent < self._threshold_percent:
            self._recheck_rounds.pop(node.folder, None)
            return False
        return not node.is_near and self._recheck_rounds.get(node.folder, 0) <= self._round

    def _examine(self, node: CgroupNode) -> None:
        time_ns = boottime_ns()
        stat = read_flat_keyed(Path(node.folder, "memory.stat"))
        inactive = stat.get("total_inactive_file" if self._mount.v1 else "inactive_file", 0)
        memcg = Memcg(_inode(node), self._sampler.path_of(node))
        usage = self._mount.read_usage(memcg)
        if usage is None or usage.usage is None or usage.limit is None:
            return
        working_set = max(0, usage.usage - inactive)
        if working_set * _PERCENT < usage.limit * self._threshold_percent:
            return
        node.is_near = True
        holder = self._sampler.holder_of(node)
        if self._recorded[holder] >= _MAX_OF_HOLDER:
            self._dropped[holder] += 1
            return
        self._recorded[holder] += 1
        host = read_host_memory()
        event = NearLimit(
            boot_id=self._boot_id,
            boottime_ns=time_ns,
            time_unix_ns=time_ns + boot_to_unix_offset_ns(),
            trigger=None,
            trigger_memcg=memcg,
            decision=OomControl(SOURCE, constraint="memcg", memcg=memcg, memcg_usage=usage),
            capture=Capture(SOURCE, self._hook, cpu=None, sequence=0),
            memcg=memcg,
            memcg_usage=usage,
            working_set=working_set,
            threshold_percent=self._threshold_percent,
            tasks=self._scanner.scan_domain(memcg, swapped=bool(host.swap_used)),
        )
        end = SeriesEnd(time_ns, usage.usage, usage.limit)
        snapshot = Snapshot(
            process_found=False,
            boottime_ns=time_ns,
            limit_cgroup=read_memcg_stats(self._mount, memcg),
            host=host,
            usage_history=UsageHistory(
                limit=build_cgroup_series(self._sampler, memcg.path, node, end),
                host=build_host_series(self._sampler, SeriesEnd(time_ns)),
            ),
        )
        self._record(event, snapshot)


def _inode(node: CgroupNode) -> int | None:
    try:
        return Path(node.folder).stat().st_ino
    except OSError:
        return None
