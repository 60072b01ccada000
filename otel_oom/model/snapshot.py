"""A snapshot of the victim, its containers and cgroups, and the host."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from otel_oom.model.runtime import RuntimeSettings
from otel_oom.model.start_settings import StartSettings
from otel_oom.model.usage import UsageHistory


class Container(Struct, frozen=True):
    """A container as its runtime describes it.

    ``id`` has 64 hexadecimal digits. ``image`` is the reference that was requested, with tag and
    digest; ``image_id`` the runtime's own id of it. ``labels`` are those named in the
    configuration, ``annotations`` those of Kubernetes' runtime interface under the runtime's own
    names. Of environment and command only ``start`` is kept: they hold secrets. ``scope`` is empty
    where the host's own runtimes are the source. Else it is the cgroup below which the source is
    believed: of a user, or of the container around it. ``error`` is the reason why a part is
    missing.
    """

    id: str
    runtime: str | None = None
    runtime_version: str | None = None
    name: str | None = None
    image: str | None = None
    image_id: str | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    scope: str = ""
    error: str | None = None
    start: StartSettings | None = None


class EventContainers(Struct, frozen=True):
    """The containers of an event.

    ``victim`` is the innermost container of the victim, ``host`` the outermost where containers
    are nested. ``trigger`` is the trigger's, where it differs from the victim's.
    """

    victim: Container | None = None
    host: Container | None = None
    trigger: Container | None = None

    @property
    def parts(self) -> tuple[Container | None, Container | None, Container | None]:
        """The containers of victim, host and trigger."""
        return self.victim, self.host, self.trigger


class MemcgStats(Struct, frozen=True):
    """Statistics of a memory cgroup at one moment, as far as the kernel has them.

    ``stat`` is in bytes. ``events`` count since the cgroup was made. ``pressure`` is as in
    :func:`~otel_oom.linux.procfs.read_pressure`.
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
    the variables by which the victim names itself to OpenTelemetry; ``environ_source`` is where
    they were read, see :class:`.StartSettings`.
    ``containers`` are the victim's and the trigger's, ``None`` where they were not looked up.

    ``victim_cgroup`` is of the victim's cgroup, ``limit_cgroup`` of the one whose limit was hit;
    where both are one, ``victim_cgroup`` is ``None``. These and ``host`` were read at
    ``boottime_ns`` on CLOCK_BOOTTIME, after the mark. ``vm_sysctl`` (the kernel's ``vm.*``) is read
    once the kill is on the disk. ``runtime`` is that of the victim's program, ``None`` where it was
    not recognised. ``usage_history`` is of the minutes before the kill.
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
    environ_source: str = ""
    runtime: RuntimeSettings | None = None
    usage_history: UsageHistory | None = None
