"""Find the userspace OOM daemons of this host by their unit files, running or not.

One that is stopped today may have killed yesterday, while no agent ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

SYSTEMD_OOMD: Final = "systemd-oomd.service"
EARLYOOM: Final = "earlyoom.service"
OOMD: Final = "oomd.service"
NOHANG: Final = ("nohang.service", "nohang-desktop.service")
UNITS: Final = (SYSTEMD_OOMD, EARLYOOM, OOMD, *NOHANG)
"""The journal itself assigns a message to its unit: no other program can forge that.

Each has the name of the daemon's program.
"""

UNIT_FOLDERS: Final = tuple(
    Path(folder)
    for folder in (
        *("/etc/systemd/system", "/run/systemd/system", "/run/systemd/transient"),
        *("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"),
    )
)
"""Folders of unit files (systemd.unit(5)), and of the units that `systemd-run` makes."""

_CMDLINE: Final = Path("/proc/cmdline")
_PLATFORM: Final = "talos.platform="


def is_program_of(unit: str, executable: str | None) -> bool:
    """Return true for the daemon itself, false for a script that it runs in its unit.

    nohang is a script itself: only its interpreter is known.
    """
    program = (executable or "").rpartition("/")[2]
    if unit in NOHANG:
        return program.startswith("python3")
    return program == unit.removesuffix(".service")


def installed_daemons(folders: Sequence[Path] = UNIT_FOLDERS) -> tuple[str, ...]:
    """Return the units of the installed daemons, in 0.1 ms."""
    return tuple(unit for unit in UNITS if any((folder / unit).exists() for folder in folders))


def is_talos(cmdline: Path = _CMDLINE) -> bool:
    """Return true on a host that Talos has booted: each of its platforms is a kernel argument."""
    with suppress(OSError):
        words = cmdline.read_text(encoding="utf-8", errors="replace").split()
        return any(word.startswith(_PLATFORM) for word in words)
    return False


def format_names(units: Sequence[str]) -> str:
    """Return the names of daemons as text."""
    return ", ".join(unit.removesuffix(".service") for unit in sorted(units))
