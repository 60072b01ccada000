"""OOM kills as systemd counts them for each unit: properties of its D-Bus objects, since 259.

``OOMKills`` is ``oom_kill`` of the unit's ``memory.events``, ``ManagedOOMKills`` counts the actions
of systemd-oomd. systemd keeps both as long as the unit is loaded, also without its cgroup. Source:
systemd's ``src/core/dbus-unit.c``.
"""

from __future__ import annotations

import subprocess
from typing import Final

from msgspec import Struct

from otel_oom.model.text import decode_bytes

_SYSTEMCTL: Final = "systemctl"
_PROPERTIES: Final = ("Id", "ControlGroup", "Delegate", "OOMKills", "ManagedOOMKills")
_LIMIT_S: Final = 10.0
_MAX_BYTES: Final = 1 << 22
_UNKNOWN: Final = (1 << 64) - 1


class UnitKills(Struct, frozen=True):
    """The kills in a unit since its start, by the kernel and by systemd-oomd.

    ``path`` is that of its cgroup; ``None`` without one. ``is_delegated``: the owner of the cgroup
    may be another user, who can write systemd-oomd's count.
    """

    unit: str
    path: str | None
    kernel: int
    oomd: int
    is_delegated: bool = False


def read_unit_kills(
    *units: str, program: str = _SYSTEMCTL, limit_s: float = _LIMIT_S
) -> list[UnitKills] | None:
    """Return which of the ``units``, or of all, have a kill.

    ``None`` without systemd, or with one that counts none.
    """
    properties = f"--property={','.join(_PROPERTIES)}"
    command = (program, "show", "--all", properties, "--", *(units or ("*",)))
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_unit_kills(decode_bytes(done.stdout[:_MAX_BYTES])) if not done.returncode else None


def parse_unit_kills(text: str) -> list[UnitKills] | None:
    """Parse what `systemctl show` prints of all units."""
    units: list[UnitKills] = []
    is_counted = False
    for block in text.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.split("\n") if "=" in line)
        kernel, oomd = (_parse_count(fields.get(name, "")) for name in _PROPERTIES[3:])
        is_counted = is_counted or _PROPERTIES[4] in fields
        if fields.get("Id") and (kernel or oomd):
            path, is_delegated = fields.get("ControlGroup") or None, fields.get("Delegate") == "yes"
            units.append(UnitKills(fields["Id"], path, kernel, oomd, is_delegated))
    return units if is_counted else None


def _parse_count(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    return 0 if count >= _UNKNOWN else count
