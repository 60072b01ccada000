"""The victim itself: its ``/proc`` files, and whether it has died."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.linux import procfs as proc_file
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.clock import boottime_ns
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import Memcg, Task
from otel_oom.snapshot.cgroup_stats import read_memcg_stats
from otel_oom.snapshot.environ import EnvironReader
from otel_oom.snapshot.host_stats import host_numbers

_READ_BYTES: Final = 8192
_NS_PER_S: Final = 1_000_000_000

_DELETED: Final = " (deleted)"


def take_snapshot(
    kill: OomKill | UserspaceKill,
    files: CgroupMount | None,
    proc: Path = Path("/proc"),
    environ: EnvironReader | None = None,
) -> Snapshot:
    """Read at once what vanishes with the victim of ``kill``, and what changes at once."""
    victim = kill.victim
    if victim is None:
        return _around(kill, files, proc)
    # The first to vanish, with the victim's memory.
    tgid = victim.tgid
    named = environ.read(tgid) if environ and tgid and not kill.capture.late else {}
    around = _around(kill, files, proc)
    folder = proc / str(tgid)
    stat = _read(folder / "stat")
    if stat is None or not _is_of(stat, victim):
        return around
    return replace(
        around,
        seen=True,
        cgroup=_still_in(kill.memcg, _read(folder / "cgroup")),
        executable=victim.executable or _link(folder / "exe"),
        environ=named,
    )


def _around(kill: OomKill | UserspaceKill, files: CgroupMount | None, proc: Path) -> Snapshot:
    """The cgroups and the host: their memory is free as soon as the victim is gone."""
    own, hit = kill.memcg, kill.decision.memcg if kill.decision else None
    limits = files.limits(own) if files and own else None
    if kill.capture.late:
        # What was used then nobody knows any more; a limit mostly stands.
        limits = replace(limits, usage=None, swap_usage=None) if limits else None
        return Snapshot(seen=False, limits=limits)
    same = own is not None and hit is not None and own.path == hit.path
    return Snapshot(
        seen=False,
        boottime_ns=boottime_ns(),
        limits=limits,
        own=read_memcg_stats(files, own) if files and own and not same else None,
        hit=read_memcg_stats(files, hit) if files and hit else None,
        host=host_numbers(proc),
    )


_STATE_DEAD: Final = frozenset("ZXx")


def process_state(kill: OomKill, proc: Path = Path("/proc")) -> str | None:
    """The state of a victim that has not died (proc_pid_stat(5), field 3); ``None`` if it has.

    A zombie is dead: it has let go of its memory.
    """
    stat = _read(proc / str(kill.victim.tgid) / "stat")
    if stat is None or kill.victim.started_ns is None or not _is_of(stat, kill.victim):
        return None
    state = stat.rpartition(")")[2].split()[0]
    return None if state in _STATE_DEAD else state


def _is_of(stat: str, victim: Task) -> bool:
    """Whether a ``/proc/PID/stat`` is of the victim itself, not of a later user of its pid."""
    if victim.started_ns is None:
        return True
    return proc_file.start_ticks(stat) == victim.started_ns * os.sysconf("SC_CLK_TCK") // _NS_PER_S


def _still_in(memcg: Memcg | None, cgroups: str | None) -> str | None:
    """``/proc/PID/cgroup`` as it is, unless the victim has already left its cgroups.

    On v1 a task that is far into its exit shows the root of every hierarchy: that is not where
    it was killed.
    """
    if memcg is None or cgroups is None or memcg.path == "/":
        return cgroups
    # The last line may have been cut by the bound of the read.
    lines = [line.split(":", 2) for line in cgroups.splitlines() if line.count(":") > 1]
    of_memory = [path for _, controllers, path in lines if "memory" in controllers.split(",")]
    return None if of_memory == ["/"] else cgroups


def _read(path: Path) -> str | None:
    return proc_file.read(path, _READ_BYTES)


def _link(path: Path) -> str | None:
    try:
        target = os.fsencode(path.readlink()).decode("utf-8", errors="backslashreplace")
    except OSError:
        return None
    return target.removesuffix(_DELETED)
