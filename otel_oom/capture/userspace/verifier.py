"""Match the kill that a message claims to a death that the kernel shows.

The text of a victim can imitate a message about any process (``messages``). So a claim is verified
only by its process, which must have the logged name and exit, or by its cgroup, which must have no
process left but dying ones.
"""

from __future__ import annotations

import os
import select
from collections import deque
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.capture.kmsg.exit_watcher import ExitWatcher
from otel_oom.linux import procfs
from otel_oom.linux.cgroupfs import CgroupMount, read_flat_keyed
from otel_oom.linux.process import ProcessDir
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import UserspaceKill, VictimExit
from otel_oom.model.types import Memcg

_MAX_CLAIMS: Final = 256
"""Kills whose exit is awaited; for another one, the oldest stays unverified."""
_OOMD_KILLS: Final = "user.oomd_kill"
_MAX_PROCESSES: Final = 64
_MAX_PROCS_BYTES: Final = 1024


class KillVerifier:
    """The kills whose victims were alive when their message was read."""

    def __init__(
        self,
        epoll: select.epoll,
        processes: ProcessLookup,
        proc: Path = Path("/proc"),
        cgroups: CgroupMount | None = None,
    ) -> None:
        """Watch for exits by ``epoll``."""
        self._processes = processes
        self._proc = proc
        self._cgroups = cgroups
        self._exits = ExitWatcher(epoll, processes)
        self._oomd_kills: dict[Path, int] = {}
        self._claims: deque[tuple[str, int, int]] = deque(maxlen=_MAX_CLAIMS)

    def verify(self, kill: UserspaceKill) -> UserspaceKill:
        """Return ``kill`` with ``verified`` as known now; watch for the exit of a living victim."""
        victim = kill.victim
        if victim is None:
            is_dead = kill.completed and kill.memcg is not None and self._is_dying(kill.memcg)
            return replace(kill, verified=is_dead)
        if victim.tgid is None or victim.start_boottime_ns is None:
            return kill
        if not self._exits.add(victim.tgid, victim.start_boottime_ns):
            # It had the logged name a moment ago.
            return replace(kill, verified=True)
        self._claims.append((kill.uid, victim.tgid, victim.start_boottime_ns))
        return kill

    def is_empty_kill(self, kill: UserspaceKill) -> bool:
        """Return true if systemd-oomd killed a cgroup in which no process was left.

        A rule acts again while the pressure lasts. The daemon counts the processes that it killed
        in the cgroup's attribute ``user.oomd_kill`` (``oomd_cgroup_kill()``).
        """
        folder = self._cgroups.existing_folder(kill.memcg) if self._cgroups and kill.memcg else None
        if folder is None:
            return False
        try:
            count = int(os.getxattr(folder, _OOMD_KILLS))
        except (OSError, ValueError):
            return False
        previous = self._oomd_kills.pop(folder, 0)
        self._oomd_kills[folder] = count
        if len(self._oomd_kills) > _MAX_CLAIMS:
            del self._oomd_kills[next(iter(self._oomd_kills))]
        return kill.verified and count <= previous

    def poll(self) -> list[VictimExit]:
        """Return the exits since the last call, one for each kill that they may verify."""
        return [
            replace(exit_, kill_uid=uid)
            for exit_ in self._exits.poll()
            for uid in self._take_claims(exit_)
        ]

    def close(self) -> None:
        """Stop watching."""
        self._exits.close()

    def _take_claims(self, exit_: VictimExit) -> list[str]:
        process = exit_.tgid, exit_.start_boottime_ns
        matching = [claim for claim in self._claims if claim[1:] == process]
        for claim in matching:
            self._claims.remove(claim)
        return [uid for uid, _, _ in matching]

    def _is_dying(self, memcg: Memcg) -> bool:
        """Return true if a cgroup has no process, or only dying ones; false if that is unknown."""
        if self._cgroups is None or self._cgroups.v1 or not self._processes.usable:
            return False
        folder = self._cgroups.existing_folder(memcg)
        if folder is None:
            return self._cgroups.folder(memcg) is not None
        if read_flat_keyed(folder / "cgroup.events").get("populated") == 0:
            return True
        pids = (procfs.read_text(folder / "cgroup.procs", _MAX_PROCS_BYTES) or "").split()
        stats = [ProcessDir(pid, self._proc).read_stat() for pid in pids[:_MAX_PROCESSES]]
        return 0 < len(pids) <= _MAX_PROCESSES and all(stat is None or stat.dying for stat in stats)
