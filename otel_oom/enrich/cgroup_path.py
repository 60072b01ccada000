"""The cgroup of a victim that identifies it best: its pod, its container, its unit."""

from __future__ import annotations

from typing import Final

from otel_oom.linux.process import parse_cgroups
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import Snapshot

_SYSTEMD_CONTROLLERS: Final = ((), ("name=systemd",))
"""The controllers of cgroup v2 and of systemd's own v1 hierarchy."""


def finest_cgroup_path(kill: OomKill | UserspaceKill, snapshot: Snapshot) -> str:
    """Return the victim's deepest known cgroup; empty if none is known.

    The memory cgroup is an ancestor where the memory controller is not enabled all the way down.
    Another hierarchy counts only if it continues that path: inside a cgroup namespace
    (cgroup_namespaces(7)), ``/proc/PID/cgroup`` can also be cut at the top.
    """
    memory = kill.memcg.path if kill.memcg else ""
    if kill.memcg and kill.memcg.path_cut:
        return memory
    prefix = f"{memory.rstrip('/')}/"
    for entry in parse_cgroups(snapshot.cgroup or ""):
        path, controllers = entry.path, entry.controllers
        if controllers in _SYSTEMD_CONTROLLERS and path.startswith(prefix) and "/.." not in path:
            return path if path != "/" else memory
    return memory
