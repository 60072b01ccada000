"""A snapshot of the victim and its surroundings, as the database keeps it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from otel_oom.model.container import EventContainers


class MemcgStats(Struct, frozen=True):
    """Statistics of a memory cgroup at one moment, as far as the kernel has them.

    ``stat`` is in bytes. ``events`` count since the cgroup was made. ``pressure`` is as in
    :func:`~otel_oom.linux.psi.pressure`.
    """

    stat: Mapping[str, int] = {}
    events: Mapping[str, int] = {}
    pressure: Mapping[str, float] = {}


class HostMemory(Struct, frozen=True):
    """The host's memory in bytes and its pressure in percent, as far as the kernel has them."""

    memory: Mapping[str, int] = {}
    pressure: Mapping[str, float] = {}

    @property
    def swap_used(self) -> int:
        """The used part of the host's swap, in bytes."""
        return self.memory.get("swap_total", 0) - self.memory.get("swap_free", 0)


class Snapshot(Struct, frozen=True):
    """The state of the victim, its cgroups and the host, read when the kill was captured.

    ``process_found``: the victim's ``/proc`` directory was there and still its own. ``cgroup`` is
    the text of ``/proc/PID/cgroup``, ``None`` once the victim has left its cgroups. ``environ`` are
    the variables by which the victim names itself to OpenTelemetry. ``containers`` are the victim's
    and the trigger's, ``None`` where they were not looked up.

    ``victim_cgroup`` is of the victim's cgroup, ``limit_cgroup`` of the one whose limit was hit;
    where both are one, ``victim_cgroup`` is ``None``. These and ``host`` were read at
    ``boottime_ns`` on CLOCK_BOOTTIME, after the mark. ``vm_sysctl`` (the kernel's ``vm.*``) is read
    once the kill is on the disk.
    """

    process_found: bool
    cgroup: str | None = None
    executable: str | None = None
    environ: Mapping[str, str] = {}
    boottime_ns: int | None = None
    victim_cgroup: MemcgStats | None = None
    limit_cgroup: MemcgStats | None = None
    host: HostMemory | None = None
    vm_sysctl: Mapping[str, int] = {}
    containers: EventContainers | None = None
