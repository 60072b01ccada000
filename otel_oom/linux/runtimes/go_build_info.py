"""Read the version of Go that built a program. Source: package debug/buildinfo of Go.

Go's linker writes a header of 32 bytes: a magic, the size of a pointer, and flags. Since Go 1.18
the version follows, after its length as a varint.
"""

from __future__ import annotations

import re
from typing import Final

from otel_oom.linux.elf import ReadBudget, read_elf
from otel_oom.linux.elf_sections import read_section

_SECTION: Final = b".go.buildinfo"
_MAGIC: Final = b"\xff Go buildinf:"
_HEADER_BYTES: Final = 32
_FLAGS: Final = 15
_INLINE_STRINGS: Final = 2
_MAX_VERSION_BYTES: Final = 64
_VERSION: Final = re.compile(rb"(?:go|devel )[ -~]{1,62}")
_MAX_READ_BYTES: Final = 1 << 18


def read_go_version(fd: int) -> str | None:
    """Return the version, such as ``go1.26.8``; empty if it is not known, ``None`` if not Go."""
    file = read_elf(fd, ReadBudget(_MAX_READ_BYTES), require_build_id=False)
    info = read_section(file, _SECTION, _HEADER_BYTES + 1 + _MAX_VERSION_BYTES) if file else b""
    if not info.startswith(_MAGIC):
        return None
    if len(info) <= _HEADER_BYTES or not info[_FLAGS] & _INLINE_STRINGS:
        return ""
    # A varint below 128 is one byte.
    length = info[_HEADER_BYTES]
    version = info[_HEADER_BYTES + 1 :][:length]
    return version.decode() if length == len(version) and _VERSION.fullmatch(version) else ""
