"""What user space saw of a kill, as the journal keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from otel_oom.model.candidates import Candidates
from otel_oom.model.container import Contained
from otel_oom.model.types import Limits, known


@dataclass(frozen=True, slots=True)
class MemcgNumbers:
    """A memory cgroup's numbers at one moment.

    ``stat`` is in bytes. ``events`` count since the cgroup was made. ``pressure`` is as
    :func:`~otel_oom.linux.psi.pressure` has it. What the kernel does not tell is left out.
    """

    stat: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    pressure: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> MemcgNumbers | None:
        """The numbers out of their JSON form, if there are any."""
        return known(cls, value) if value else None


@dataclass(frozen=True, slots=True)
class HostNumbers:
    """The host's memory in bytes and its pressure in percent at one moment.

    What the kernel does not tell is left out.
    """

    memory: Mapping[str, int] = field(default_factory=dict)
    pressure: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> HostNumbers | None:
        """The numbers out of their JSON form, if there are any."""
        return known(cls, value) if value else None

    @property
    def swapped(self) -> int:
        """How much of the host's swap is in use, in bytes."""
        return self.memory.get("swap_total", 0) - self.memory.get("swap_free", 0)


@dataclass(frozen=True, slots=True)
class Witness:
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

    seen: bool
    cgroup: str | None = None
    executable: str | None = None
    limits: Limits | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    boottime_ns: int | None = None
    own: MemcgNumbers | None = None
    hit: MemcgNumbers | None = None
    host: HostNumbers | None = None
    settings: Mapping[str, int] = field(default_factory=dict)
    candidates: Candidates | None = None
    containers: Contained | None = None
    report: str | None = None
    listed: Candidates | None = None

    def to_json(self) -> dict[str, Any]:
        """This witness as a dictionary that :meth:`from_json` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Witness:
        """The witness out of :meth:`to_json`'s dictionary.

        Raises:
            TypeError: the dictionary is of another shape.
            KeyError: a part is missing.
        """
        limits, containers = value.get("limits"), value.get("containers")
        return known(
            cls,
            {
                **value,
                "limits": known(Limits, limits) if limits else None,
                "own": MemcgNumbers.from_json(value.get("own")),
                "hit": MemcgNumbers.from_json(value.get("hit")),
                "host": HostNumbers.from_json(value.get("host")),
                "containers": Contained.from_json(containers) if containers else None,
                "candidates": Candidates.from_json(value.get("candidates")),
                "listed": Candidates.from_json(value.get("listed")),
            },
        )
