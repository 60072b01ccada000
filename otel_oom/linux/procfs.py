"""Bounded reads of small text files of the kernel, and the formats of those about the host."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.model.text import decode_bytes

MOUNTINFO: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
"""How the kernel escapes a space, a tab, a newline and a backslash."""
_PRESSURE_BYTES: Final = 512
_PRESSURE: Final = re.compile(r"(some|full) avg10=(\d+\.\d+) avg60=(\d+\.\d+) ")


def read_text(path: Path | str, max_bytes: int) -> str | None:
    """Read the start of a file by one read(2); ``None`` if it is not readable.

    To join two paths as :class:`Path` takes as long as the kernel takes for a small file.
    """
    raw = _read(path, max_bytes, max_reads=1)
    return None if raw is None else decode_bytes(raw)


def read_lines(path: Path | str, max_bytes: int) -> list[str]:
    """Read the lines of a file of many records; empty if it is not readable.

    One read(2) returns at most a page of such a file (``seq_read_iter()``), so there are several.
    """
    raw = _read(path, max_bytes, max_reads=max_bytes)
    return decode_bytes(raw).removesuffix("\n").split("\n") if raw else []


def _read(path: Path | str, max_bytes: int, max_reads: int) -> bytes | None:
    parts: list[bytes] = []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        while len(parts) < max_reads and (part := os.read(descriptor, max_bytes)):
            parts.append(part)
            max_bytes -= len(part)
    except OSError:
        # Earlier parts are good.
        return b"".join(parts) if parts else None
    finally:
        os.close(descriptor)
    return b"".join(parts)


class Mount(Struct, frozen=True):
    """A mount: ``device`` is ``major:minor``, ``root`` the mounted part of the file system."""

    device: str
    root: str
    path: Path
    file_system: str
    super_options: tuple[str, ...]


def read_mounts(mountinfo: Path = MOUNTINFO) -> Iterator[Mount]:
    """Return this process's mounts in their order (proc_pid_mountinfo(5)).

    Paths may have any character that is not escaped.
    """
    # Not as text, which would end a line at a carriage return as well.
    for line in os.fsdecode(mountinfo.read_bytes()).split("\n"):
        before, separator, after = line.partition(" - ")
        if separator:
            fields, rest = before.split(" "), after.split(" ")
            path = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
            yield Mount(fields[2], fields[3], path, rest[0], tuple(rest[-1].split(",")))


def read_pressure(path: Path | str) -> Mapping[str, float]:
    """Read the shares of the last 10 and 60 s in which tasks waited for memory, in percent.

    ``some.avg10`` counts time in which at least one task waited, ``full.avg10`` time in which all
    did (Documentation/accounting/psi.rst). Empty where the kernel has no such file.
    """
    shares: dict[str, float] = {}
    for kind, avg10, avg60 in _PRESSURE.findall(read_text(path, _PRESSURE_BYTES) or ""):
        shares |= {f"{kind}.avg10": float(avg10), f"{kind}.avg60": float(avg60)}
    return shares
