"""What user space saw of a kill, as the journal keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from otel_oom.facts import Limits, known


@dataclass(frozen=True, slots=True)
class Witness:
    """What user space saw of the victim.

    ``seen`` is whether the victim's ``/proc`` folder was still there and still its own.
    ``cgroup`` is the text of ``/proc/PID/cgroup``, ``None`` once the victim has left its cgroups.
    ``environ`` are the variables of its environment by which it names itself to OpenTelemetry.
    """

    seen: bool
    cgroup: str | None = None
    executable: str | None = None
    limits: Limits | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """This witness as a dictionary that :meth:`from_json` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Witness:
        """The witness out of :meth:`to_json`'s dictionary.

        Raises:
            TypeError: the dictionary is of another shape.
        """
        limits = value.get("limits")
        return known(cls, {**value, "limits": known(Limits, limits) if limits else None})
