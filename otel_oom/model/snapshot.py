"""What user space saw of a kill, as the journal keeps it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from otel_oom.model.candidates import TaskList
from otel_oom.model.container import EventContainers
from otel_oom.model.types import MemcgUsage


class MemcgStats(Struct, frozen=True):
    """A memory cgroup's numbers at one moment.

    ``stat`` is in bytes. ``events`` count since the cgroup was made. ``pressure`` is as
    :func:`~otel_oom.linux.psi.pressure` has it. What the kernel does not tell is left out.
    """

    stat: Mapping[str, int] = {}
    events: Mapping[str, int] = {}
    pressure: Mapping[str, float] = {}


class HostMemory(Struct, frozen=True):
    """The host's memory in bytes and its pressure in percent at one moment.

    What the kernel does not tell is left out.
    """

    memory: Mapping[str, int] = {}
    pressure: Mapping[str, float] = {}

    @property
    def swap_used(self) -> int:
        """How much of the host's swap is in use, in bytes."""
        return self.memory.get("swap_total", 0) - self.memory.get("swap_free", 0)


class Snapshot(Struct, frozen=True):
    """What user space saw of the victim and of what was around it.

    ``seen`` is whether the victim's ``/proc`` folder was still there and still its own.
    ``cgroup`` is the text of ``/proc/PID/cgroup``, ``None`` once the victim has left its cgroups.
    ``containers`` is what was known of its container and the trigger's; ``None`` if nobody looked.
    ``environ`` are the variables of its environment by which it names itself to OpenTelemetry.

    ``limits`` and ``own`` are of the victim's cgroup, ``hit`` is of the one whose limit was hit
    where that is another; ``own`` is ``None`` where it is the same, and ``hit`` is of both then.
    ``limits`` were read after the mark, unlike those of the kill itself.
    They and ``host`` were read at ``boottime_ns`` on CLOCK_BOOTTIME. ``settings`` are the kernel's
    ``vm.*``; they and ``candidates`` are seen once the kill is on the disk. So is the kernel's log,
    where the kill's source does not read it: ``report`` is what it has of the kill, and ``listed``
    are the processes in that.
    """

    process_found: bool
    cgroup: str | None = None
    executable: str | None = None
    memcg_usage: MemcgUsage | None = None
    environ: Mapping[str, str] = {}
    boottime_ns: int | None = None
    victim_cgroup: MemcgStats | None = None
    limit_cgroup: MemcgStats | None = None
    host: HostMemory | None = None
    vm_sysctl: Mapping[str, int] = {}
    tasks: TaskList | None = None
    containers: EventContainers | None = None
    kernel_report: str | None = None
    kernel_report_tasks: TaskList | None = None
