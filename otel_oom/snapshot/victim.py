"""The victim itself: its /proc files, and whether it has died."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.dying_process import is_same_process, latest_start_ns, started_as
from otel_oom.linux.process import ProcessDir, ProcessStat, parse_cgroups
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.linux.runtimes.recognition import recognize_runtime
from otel_oom.model.events import OomKill, UserspaceKill, hit_own_limit
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.start_settings import MARK, NOTE, PROCESS, StartSettings
from otel_oom.model.types import Memcg, MemcgUsage, Task
from otel_oom.snapshot.cgroup_stats import read_memcg_stats
from otel_oom.snapshot.environ import EnvironReader, VictimText
from otel_oom.snapshot.host_stats import read_host_memory
from otel_oom.snapshot.process_notes import ProcessNotes
from otel_oom.snapshot.runtime import apply_settings

_DEAD_STATES: Final = frozenset("ZXx")
"""A zombie is dead: its memory is released."""


def take_snapshot(
    kill: OomKill | UserspaceKill,
    cgroups: CgroupMount | None,
    proc: Path = Path("/proc"),
    environ: EnvironReader | None = None,
    notes: ProcessNotes | None = None,
) -> Snapshot:
    """Read what vanishes with the victim of ``kill``, and what changes quickly.

    What it was started with comes from its memory at the mark, else from ``notes``. The memory of
    a victim of the kernel is never read after the mark, see :class:`.ProcessDir`.
    """
    victim = kill.victim
    if victim is None:
        return _surroundings(kill, cgroups, proc)
    # The environment goes first, with the victim's memory.
    tgid, text = victim.tgid, VictimText()
    if environ and tgid and isinstance(kill, UserspaceKill) and not kill.capture.recovered:
        text = environ.read(tgid, kill.memcg.path if kill.memcg else "", victim.executable)
    snapshot = _surroundings(kill, cgroups, proc)
    process = ProcessDir(str(tgid), proc)
    cgroup = process.read_text("cgroup")
    stat = process.read_stat() if isinstance(kill, UserspaceKill) else None
    is_found = _is_victim(process, victim, kill, cgroup, stat) and ProcessLookup(proc).usable
    # A victim of unknown start can have a note only if it existed when that was checked.
    started_ns = latest_start_ns(process) if is_found and not victim.start_boottime_ns else None
    note = notes.find(victim, stat, started_ns) if notes else None
    snapshot = _add_start(snapshot, victim, text if is_found else VictimText(), note)
    if not is_found:
        return snapshot
    return replace(
        snapshot,
        process_found=True,
        cgroup=_unless_left(kill.memcg, cgroup),
        executable=victim.executable or process.read_executable(),
    )


def _add_start(
    snapshot: Snapshot, victim: Task, text: VictimText, note: VictimText | None
) -> Snapshot:
    """Add the victim's names and runtime: of the mark, else of now, else of its note."""
    marked, note = victim.start, note or VictimText()
    runtime = text.runtime or note.runtime or recognize_runtime(victim.executable)
    if marked:
        runtime = apply_settings(
            runtime, victim.executable or "", marked.memory, is_complete=marked.has_command
        )
    elif note.runtime and not (text.runtime and text.runtime.is_complete):
        runtime = note.runtime
    environ, source = _choose_environ(marked, text, note)
    return replace(snapshot, environ=environ, environ_source=source, runtime=runtime)


def _choose_environ(
    marked: StartSettings | None, text: VictimText, note: VictimText
) -> tuple[Mapping[str, str], str]:
    """Return the variables that name the victim, and their source; empty without any."""
    # Where all of it was read, a victim without such variables has none.
    if marked and marked.is_complete:
        return marked.environ, MARK
    if text.variables:
        return text.variables, PROCESS
    if note.variables:
        return note.variables, NOTE
    return (marked.environ, MARK) if marked and marked.environ else ({}, "")


def _surroundings(
    kill: OomKill | UserspaceKill, cgroups: CgroupMount | None, proc: Path
) -> Snapshot:
    """Read cgroups and host: their numbers change as soon as the victim is gone."""
    if kill.capture.recovered:
        return Snapshot(process_found=False)
    own, hit = kill.memcg, kill.decision.memcg if kill.decision else None
    same = hit_own_limit(kill)
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
    if hit_own_limit(kill):
        return replace(snapshot, victim_cgroup=None, limit_cgroup=snapshot.victim_cgroup)
    return replace(snapshot, limit_cgroup=read_memcg_stats(cgroups, hit))


def read_usage(kill: OomKill | UserspaceKill, cgroups: CgroupMount | None) -> MemcgUsage | None:
    """Return the usage and limits of the victim's cgroup: at the mark, else as they are now."""
    marked = kill.memcg_usage
    if cgroups is None or kill.memcg is None:
        return marked
    if marked:
        if kill.capture.recovered or not cgroups.lacks_swap_files(kill.memcg):
            return marked
        # A kernel without swap accounting has the counters, but not the files.
        return replace(marked, swap_limit=None, swap_usage=None)
    usage = cgroups.read_usage(kill.memcg)
    if usage and kill.capture.recovered:
        # The usage at that time is lost; a limit mostly stays.
        return replace(usage, usage=None, swap_usage=None)
    return usage


def process_state(kill: OomKill, proc: Path = Path("/proc")) -> str | None:
    """Return the state of a victim that has not died (proc_pid_stat(5)); ``None`` if it has."""
    stat = ProcessDir(str(kill.victim.tgid), proc).read_stat()
    if stat is None or stat.state in _DEAD_STATES or not ProcessLookup(proc).usable:
        return None
    return stat.state if started_as(stat, kill.victim, kill.boottime_ns) else None


def _is_victim(
    process: ProcessDir,
    victim: Task,
    kill: OomKill | UserspaceKill,
    cgroup: str | None,
    stat: ProcessStat | None,
) -> bool:
    """Return whether it is the victim, not another process that has its pid now.

    So soon after the mark, a victim of the kernel is in its cgroup still.
    """
    if isinstance(kill, UserspaceKill):
        return started_as(stat, victim, kill.boottime_ns)
    if kill.capture.recovered:
        return False
    return is_same_process(process, victim, kill.memcg, kill.boottime_ns, cgroup)


def _unless_left(memcg: Memcg | None, cgroups: str | None) -> str | None:
    """Return ``/proc/PID/cgroup`` unless the victim has already left its cgroups.

    On v1, a task late in its exit shows the root of every hierarchy, which is not where it was
    killed.
    """
    if memcg is None or cgroups is None or memcg.path == "/":
        return cgroups
    paths = [entry.path for entry in parse_cgroups(cgroups) if "memory" in entry.controllers]
    return None if paths == ["/"] else cgroups
