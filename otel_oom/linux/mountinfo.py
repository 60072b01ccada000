"""The mounts of this process (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

MOUNTINFO: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
"""How the kernel escapes a space, a tab, a newline and a backslash."""


class Mount(Struct, frozen=True):
    """A mount: ``device`` is ``major:minor``, ``root`` the mounted part of the file system."""

    device: str
    root: str
    path: Path
    file_system: str
    super_options: tuple[str, ...]


def read_mounts(mountinfo: Path = MOUNTINFO) -> Iterator[Mount]:
    """Return the mounts in their order. Paths may have any character that is not escaped."""
    # Not as text, which would end a line at a carriage return as well.
    for line in os.fsdecode(mountinfo.read_bytes()).split("\n"):
        before, separator, after = line.partition(" - ")
        if separator:
            fields, rest = before.split(" "), after.split(" ")
            path = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
            yield Mount(fields[2], fields[3], path, rest[0], tuple(rest[-1].split(",")))
