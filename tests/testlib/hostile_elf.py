"""ELF files that a tenant makes to cost as much as possible."""

from __future__ import annotations

import struct
from typing import Final

BUILD_ID: Final = b"\xab" * 20
HEADER_BYTES: Final = 64
_SEGMENT_BYTES: Final = 56
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMTAB, _STRTAB, _DYNSYM = 2, 3, 11


def header(segments: int, sections: int, section_offset: int) -> bytes:
    """Return the header of a library of 64 bits, whose segments follow."""
    fields = (3, 62, 1, 0, HEADER_BYTES, section_offset, 0, 64, 56, segments, 64, sections, 0)
    return b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HHIQQQIHHHHHH", *fields)


def segment(kind: int, offset: int, size: int, flags: int = 4) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, flags, offset, 0, 0, size, size, 4)


def note(build_id: bytes = BUILD_ID) -> bytes:
    return struct.pack("<III", 4, len(build_id), 3) + b"GNU\0" + build_id


def many_notes(count: int = 1023, size: int = 1 << 16) -> bytes:
    """Return a file with ``count`` segments of notes at one place, none of them a build id."""
    notes = HEADER_BYTES + count * _SEGMENT_BYTES
    segments = segment(4, notes, 4096) * count
    return (header(count, 0, 0) + segments + struct.pack("<III", 0, 0, 0) * 400).ljust(size, b"\0")


def many_symbols(count: int, build_id: bytes = BUILD_ID, table_bytes: int | None = None) -> bytes:
    """Return a file with one table of symbols, which is that of debuggers and of the loader.

    Each of its functions is one byte at 0x1000. The table claims to have ``table_bytes``.
    """
    notes = HEADER_BYTES + 2 * _SEGMENT_BYTES
    begin = notes + 64
    symbols = struct.pack("<IBBHQQ", 1, 2, 0, 1, 0x1000, 1) * count
    strings = begin + len(symbols)
    sections = _SECTION.pack(0, _STRTAB, 0, 0, strings, 8, 0, 0, 1, 0)
    for kind in (_SYMTAB, _DYNSYM):
        sections += _SECTION.pack(0, kind, 0, 0, begin, table_bytes or len(symbols), 0, 0, 8, 24)
    segments = segment(1, 0, 1 << 40, flags=5) + segment(4, notes, len(note(build_id)))
    start = header(2, 3, strings + 8) + segments + note(build_id)
    return start.ljust(begin, b"\0") + symbols + b"\0f\0".ljust(8, b"\0") + sections
