"""The victim itself: its /proc files, and whether it has died."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.process import ProcessDir, ProcessStat, parse_cgroups
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import Memcg, MemcgUsage
from otel_oom.model.units import NS_PER_S
from otel_oom.snapshot.cgroup_stats import read_memcg_stats
from otel_oom.snapshot.environ import EnvironReader
from otel_oom.snapshot.host_stats import read_host_memory

_DEAD_STATES: Final = frozenset("ZXx")
"""A zombie is dead: its memory is released."""


def take_snapshot(
    kill: OomKill | UserspaceKill,
    cgroups: CgroupMount | None,
    proc: Path = Path("/proc"),
    environ: EnvironReader | None = None,
) -> Snapshot:
    """Read what vanishes with the victim of ``kill``, and what changes quickly."""
    victim = kill.victim
    if victim is None:
        return _surroundings(kill, cgroups, proc)
    # The environment goes first, with the victim's memory.
    tgid = victim.tgid
    variables: dict[str, str] = {}
    if environ and tgid and not kill.capture.recovered:
        variables = environ.read(tgid, kill.memcg.path if kill.memcg else "")
    snapshot = _surroundings(kill, cgroups, proc)
    process = ProcessDir(str(tgid), proc)
    stat = process.read_stat()
    if stat is None or not _is_victim(stat, kill, proc):
        return snapshot
    return replace(
        snapshot,
        process_found=True,
        cgroup=_unless_left(kill.memcg, process.read_text("cgroup")),
        executable=victim.executable or process.read_executable(),
        environ=variables,
    )


def _surroundings(
    kill: OomKill | UserspaceKill, cgroups: CgroupMount | None, proc: Path
) -> Snapshot:
    """Read cgroups and host: their numbers change as soon as the victim is gone."""
    if kill.capture.recovered:
        return Snapshot(process_found=False)
    own, hit = kill.memcg, kill.decision.memcg if kill.decision else None
    same = own is not None and hit is not None and own.path == hit.path
    return Snapshot(
        process_found=False,
        boottime_ns=boottime_ns(),
        victim_cgroup=read_memcg_stats(cgroups, own) if cgroups and own and not same else None,
        limit_cgroup=read_memcg_stats(cgroups, hit) if cgroups and hit else None,
        host=read_host_memory(proc),
    )


def add_limit_cgroup(kill: OomKill, snapshot: Snapshot, cgroups: CgroupMount | None) -> Snapshot:
    """Return ``snapshot`` with the cgroup whose limit was hit, if it was not known before."""
    hit = kill.decision.memcg if kill.decision else None
    if cgroups is None or hit is None or snapshot.limit_cgroup or kill.capture.recovered:
        return snapshot
    if kill.memcg and kill.memcg.path == hit.path:
        return replace(snapshot, victim_cgroup=None, limit_cgroup=snapshot.victim_cgroup)
    return replace(snapshot, limit_cgroup=read_memcg_stats(cgroups, hit))


def read_usage(kill: OomKill | UserspaceKill, cgroups: CgroupMount | None) -> MemcgUsage | None:
    """Return the usage and limits of the victim's cgroup: at the mark, else as they are now."""
    marked, usage = kill.memcg_usage, None
    if cgroups and kill.memcg:
        usage = cgroups.read_usage(kill.memcg)
    if usage and kill.capture.recovered:
        # The usage at that time is lost; a limit mostly stays.
        usage = replace(usage, usage=None, swap_usage=None)
    if marked and usage and usage.usage is not None and usage.swap_usage is None:
        # A kernel without swap accounting has the counters, but not the files.
        return replace(marked, swap_limit=None, swap_usage=None)
    return marked or usage


def process_state(kill: OomKill, proc: Path = Path("/proc")) -> str | None:
    """Return the state of a victim that has not died (proc_pid_stat(5)); ``None`` if it has."""
    stat = ProcessDir(str(kill.victim.tgid), proc).read_stat()
    if stat is None or not _is_victim(stat, kill, proc):
        return None
    return None if stat.state in _DEAD_STATES else stat.state


def _is_victim(stat: ProcessStat, kill: OomKill | UserspaceKill, proc: Path) -> bool:
    """Return whether it is the victim, not another process that has its pid now, or here.

    A process that started before the kill, and still has the pid, had it at the kill.
    """
    victim = kill.victim
    if victim is None or stat.start_ticks is None or not ProcessLookup(proc).usable:
        return False
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    if victim.start_boottime_ns is not None:
        return stat.start_ticks == victim.start_boottime_ns * ticks_per_s // NS_PER_S
    named = victim.comm is None or stat.comm == victim.comm
    return named and stat.start_ticks < kill.boottime_ns * ticks_per_s // NS_PER_S


def _unless_left(memcg: Memcg | None, cgroups: str | None) -> str | None:
    """Return ``/proc/PID/cgroup`` unless the victim has already left its cgroups.

    On v1, a task late in its exit shows the root of every hierarchy, which is not where it was
    killed.
    """
    if memcg is None or cgroups is None or memcg.path == "/":
        return cgroups
    paths = [entry.path for entry in parse_cgroups(cgroups) if "memory" in entry.controllers]
    return None if paths == ["/"] else cgroups
