"""Build the series of a kill from the samples before it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from otel_oom.model.events import OomKill, UserspaceKill, hit_own_limit
from otel_oom.model.snapshot import HostMemory
from otel_oom.model.types import Memcg, MemcgUsage
from otel_oom.model.units import PAGE_BYTES
from otel_oom.model.usage import UsageHistory, UsageSeries
from otel_oom.snapshot.usage.cgroup_tree import CgroupNode
from otel_oom.snapshot.usage.crossings import CrossingWatch
from otel_oom.snapshot.usage.sampler import UsageSampler


class SeriesEnd(Struct, frozen=True):
    """The time for which series are built, and the usage that is known of it."""

    boottime_ns: int
    usage_bytes: int | None = None
    limit_bytes: int | None = None


def build_kill_history(
    sampler: UsageSampler,
    crossings: CrossingWatch,
    kill: OomKill | UserspaceKill,
    host: HostMemory | None,
) -> UsageHistory:
    """Return the series up to a kill, which end with the usage at the mark; ``host`` is as then."""
    decision, own = kill.decision, kill.memcg
    hit = decision.memcg if decision else None
    is_same = hit_own_limit(kill)
    hit_usage = decision.memcg_usage if decision else None
    if is_same and hit_usage is None:
        hit_usage = kill.memcg_usage
    memory = host.memory if host else {}
    total, available = memory.get("total"), memory.get("available")
    used = None if total is None or available is None else total - available
    nodes = [_find(sampler, memcg) for memcg in (hit, own)]
    return UsageHistory(
        limit=_cgroup_series(sampler, hit, hit_usage, kill.boottime_ns),
        victim=None
        if is_same
        else _cgroup_series(sampler, own, kill.memcg_usage, kill.boottime_ns),
        host=build_host_series(sampler, SeriesEnd(kill.boottime_ns, used, total)),
        crossings=crossings.find([*(node for node in nodes if node), None]),
    )


def build_cgroup_series(
    sampler: UsageSampler, path: str, node: CgroupNode, end: SeriesEnd
) -> UsageSeries | None:
    """Return the series of a cgroup; ``None`` without any value."""
    limit = end.limit_bytes
    if limit is None and node.limit_pages is not None:
        limit = node.limit_pages * PAGE_BYTES
    series = _build_series(sampler, path, node.column, limit, end)
    if series is None or node.created_boottime_ns is None:
        return series
    return UsageSeries(
        series.path,
        series.interval_ns,
        series.end_boottime_ns,
        series.values,
        series.limit,
        min(node.created_boottime_ns, series.times_boottime_ns[0]),
        series.last_interval_ns,
        series.max_gap_ns,
    )


def build_host_series(sampler: UsageSampler, end: SeriesEnd) -> UsageSeries | None:
    """Return the series of the host's memory that is not available."""
    limit = end.limit_bytes
    if limit is None and sampler.host_pages is not None:
        limit = sampler.host_pages * PAGE_BYTES
    return _build_series(sampler, None, sampler.host_column, limit, end)


def _cgroup_series(
    sampler: UsageSampler, memcg: Memcg | None, usage: MemcgUsage | None, boottime_ns: int
) -> UsageSeries | None:
    node = _find(sampler, memcg)
    end = SeriesEnd(boottime_ns, usage.usage if usage else None, usage.limit if usage else None)
    if memcg is None or memcg.path_cut:
        return None
    if node is None:
        return _build_unsampled_series(sampler, memcg, end)
    return build_cgroup_series(sampler, memcg.path, node, end)


def _build_unsampled_series(
    sampler: UsageSampler, memcg: Memcg, end: SeriesEnd
) -> UsageSeries | None:
    """Return the usage at the mark of a cgroup that was made since the last walk."""
    created_ns = sampler.read_creation_time(memcg.path, memcg.id)
    if end.usage_bytes is None or created_ns is None:
        return None
    values, interval_ns = (end.usage_bytes,), sampler.interval_ns
    created_ns = min(created_ns, end.boottime_ns)
    return UsageSeries(
        memcg.path, interval_ns, end.boottime_ns, values, end.limit_bytes, created_ns
    )


def _find(sampler: UsageSampler, memcg: Memcg | None) -> CgroupNode | None:
    node = None if memcg is None or memcg.path_cut else sampler.find(memcg.path)
    # In a cgroup namespace, or after it was made again, that path is another cgroup.
    is_other = node and memcg and memcg.id is not None and node.inode not in {None, memcg.id}
    return None if is_other else node


def _build_series(
    sampler: UsageSampler,
    path: str | None,
    column: int | None,
    limit: int | None,
    end: SeriesEnd,
) -> UsageSeries | None:
    interval_ns = sampler.interval_ns
    last_tick = end.boottime_ns // interval_ns
    pages = [] if column is None else sampler.table.read_column(column, last_tick)
    # Samples of after the kill are not in it, so the last row may be an earlier one.
    last_tick = min(last_tick, sampler.table.last_tick)
    values, max_gap = _fill_gaps(pages)
    last_interval_ns = end.boottime_ns - last_tick * interval_ns if values else None
    if end.usage_bytes is not None:
        values.append(end.usage_bytes)
    elif values:
        end = SeriesEnd(last_tick * interval_ns)
        last_interval_ns = None
    if not values:
        return None
    return UsageSeries(
        path,
        interval_ns,
        end.boottime_ns,
        tuple(values),
        limit,
        last_interval_ns=last_interval_ns,
        max_gap_ns=max_gap * interval_ns,
    )


def _fill_gaps(pages: Sequence[int | None]) -> tuple[list[int], int]:
    """Return bytes from the first sample on, gaps filled, and the longest distance of samples."""
    values: list[int] = []
    gap, max_gap = 0, 1
    for sample in pages:
        if sample is None and not values:
            continue
        gap = gap + 1
        values.append(values[-1] if sample is None else sample * PAGE_BYTES)
        if sample is not None:
            max_gap, gap = max(max_gap, gap if len(values) > 1 else 0), 0
    return values, max(max_gap, gap)
