"""The victim's service name, so that its death stands beside its own telemetry."""

from __future__ import annotations

import re
from typing import Final

from otel_oom.enrich.container import Container

_UNIT: Final = re.compile(r"(?P<name>.+)\.service")
_MANAGER: Final = re.compile(r"user@\d+\.service")
"""A user's systemd: an ancestor of that user's services, never the service itself."""

UNKNOWN: Final = "unknown_service"
"""The name that OpenTelemetry prescribes where there is none."""


def service_name(
    cgroup_path: str, container: Container | None, executable: str | None, comm: str | None
) -> str:
    """The systemd unit, else the executable's name, else the kernel's name for the thread.

    Inside a container the unit is left out: it is the runtime's, not the victim's.
    """
    if container is None:
        for component in reversed(cgroup_path.split("/")):
            unit = _UNIT.fullmatch(component)
            if unit and not _MANAGER.fullmatch(component):
                return unit["name"]
    name = (executable or "").rpartition("/")[2]
    return name or comm or UNKNOWN
