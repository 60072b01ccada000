"""Which of the victim's cgroups tells most of where it is: its pod, its container, its unit."""

from __future__ import annotations

from typing import Final

from otel_oom.linux.process import parse_cgroups
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import Snapshot

_SYSTEMD: Final = ((), ("name=systemd",))
"""The controllers of cgroup v2 and of systemd's own v1 hierarchy."""


def cgroup_path(kill: OomKill | UserspaceKill, witness: Snapshot) -> str:
    """The victim's cgroup in the finest hierarchy that is known; empty where none is.

    Its memory cgroup can be an ancestor's, where the memory controller is not enabled all the way
    down. Another hierarchy is taken only where it goes on from there: as ``/proc/PID/cgroup`` shows
    it (cgroup_namespaces(7)), it can also be cut at the top.
    """
    memory = kill.memcg.path if kill.memcg else ""
    if kill.memcg and kill.memcg.path_cut:
        return memory
    above = f"{memory.rstrip('/')}/"
    for entry in parse_cgroups(witness.cgroup or ""):
        path = entry.path
        if entry.controllers in _SYSTEMD and path.startswith(above) and "/.." not in path:
            return path if path != "/" else memory
    return memory
