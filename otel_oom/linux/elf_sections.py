"""Find a section of an ELF file by its name. The file may be hostile: all reads are bounded."""

from __future__ import annotations

import struct
from typing import Final

from otel_oom.linux.elf import MAX_SECTIONS, ElfFile

_INDEX: Final = struct.Struct("<H")
_NAME: Final = struct.Struct("<I")
_MAX_NAMES_BYTES: Final = 65536


def read_section(file: ElfFile, name: bytes, max_bytes: int) -> bytes:
    """Return the start of a section; empty if there is none, or the file is malformed."""
    headers, layout = file.sections, file.layout.section
    if headers.entry_size != layout.size or not 0 < headers.entries <= MAX_SECTIONS:
        return b""
    raw = file.budget.pread(file.fd, layout.size * headers.entries, headers.offset)
    count = len(raw) // layout.size
    # e_shstrndx, the last field of the file's header.
    index = file.budget.pread(file.fd, _INDEX.size, file.layout.header.size)
    names_index = _INDEX.unpack(index)[0] if len(index) == _INDEX.size else count
    if names_index >= count:
        return b""
    _, offset, size, _, _ = layout.unpack_from(raw, names_index * layout.size)
    names = file.budget.pread(file.fd, min(size, _MAX_NAMES_BYTES), offset)
    for begin in range(0, count * layout.size, layout.size):
        start = _NAME.unpack_from(raw, begin)[0]
        if names[start : start + len(name) + 1] == name + b"\0":
            _, offset, size, _, _ = layout.unpack_from(raw, begin)
            return file.budget.pread(file.fd, min(size, max_bytes), offset)
    return b""
