"""The headers of an ELF file: its build id, its segments, its section table.

Files may be those of containers and hence hostile: each table is bounded and read in slices, and a
malformed one is treated as absent. Little-endian files of 32 and 64 bits (elf(5)).

Imports little: the process that reads such files is started for each stack.
"""

from __future__ import annotations

import math
import os
import struct
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

_HEAD_BYTES: Final = 4096
"""Headers and notes are nearly always within it."""

BUILD_ID_BYTES: Final = 20
"""BUILD_ID_SIZE_MAX (include/linux/buildid.h): the kernel reports no longer one."""

MAX_SECTIONS: Final = 1024
MAX_SEGMENTS: Final = 128
"""Of 1,300 libraries of Debian the most has 13."""
_MAX_NOTES: Final = 64
_MAX_NOTE_BYTES: Final = 4096
_MAX_READ_BYTES: Final = 64 << 20
"""Two million symbols of 24 bytes."""

_EXECUTABLE: Final = (2, 3)  # ET_EXEC, ET_DYN
_PT_LOAD, _PT_NOTE, _PF_X = 1, 4, 1
_NT_GNU_BUILD_ID: Final = 3
_NOTE: Final = struct.Struct("<III")  # namesz, descsz, type


class ElfLayout(NamedTuple):
    """The fields of one class of files, for struct and by index."""

    header: struct.Struct  # type, phoff, shoff, phentsize, phnum, shentsize, shnum
    segment: struct.Struct
    segment_fields: tuple[int, ...]  # type, flags, offset, vaddr, filesz, memsz
    section: struct.Struct  # type, offset, size, link, entsize
    symbol: struct.Struct
    symbol_fields: tuple[int, ...]  # name, info, shndx, value, size


_LAYOUTS: Final = {
    b"\x7fELF\x01\x01": ElfLayout(
        struct.Struct("<16xH2x4x4xII4x2xHHHH"),
        struct.Struct("<8I"),
        (0, 6, 1, 2, 4, 5),
        struct.Struct("<4xI4x4xIII8xI"),
        struct.Struct("<IIIBBH"),
        (0, 3, 5, 1, 2),
    ),
    b"\x7fELF\x02\x01": ElfLayout(
        struct.Struct("<16xH2x4x8xQQ4x2xHHHH"),
        struct.Struct("<IIQQQQQQ"),
        (0, 1, 2, 3, 5, 6),
        struct.Struct("<4xI8x8xQQI4x8xQ"),
        struct.Struct("<IBBHQQ"),
        (0, 1, 3, 4, 5),
    ),
}


class Segment(NamedTuple):
    """A part of the file that is mapped, in bytes; ``size`` is zero in a file of symbols alone."""

    offset: int
    address: int
    size: int
    memory_size: int
    executable: bool


class SectionTable(NamedTuple):
    """The place of the section headers, in bytes of the file."""

    offset: int
    entry_size: int
    entries: int


class ReadBudget:
    """The bytes and the CPU time of this process that may be spent on files.

    Beyond it every file seems to end. One budget applies to all files of a kill.
    """

    __slots__ = ("_bytes", "_end_s")

    def __init__(self, max_bytes: int = _MAX_READ_BYTES, cpu_s: float = math.inf) -> None:
        self._bytes = max_bytes
        self._end_s = time.process_time() + cpu_s

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is read."""
        return self._bytes <= 0 or time.process_time() > self._end_s

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read what exists of a part of a file; empty if it is not readable."""
        if self.is_spent:
            return b""
        self._bytes -= size
        try:
            return os.pread(fd, size, offset)
        except (OSError, OverflowError):
            return b""


class ElfFile(NamedTuple):
    """An executable or library, open at ``fd``; ``build_id`` has the length in the file."""

    fd: int
    budget: ReadBudget
    build_id: bytes
    segments: tuple[Segment, ...]
    layout: ElfLayout
    sections: SectionTable

    def virtual_address(self, offset: int) -> int | None:
        """Return the virtual address of a file offset; ``None`` if it is not in code."""
        for segment in self.segments:
            if segment.executable and 0 <= offset - segment.offset < segment.size:
                return offset - segment.offset + segment.address
        return None


def read_elf(
    fd: int, budget: ReadBudget | None = None, *, require_build_id: bool = True
) -> ElfFile | None:
    """Read the file by one pread(2) of 4 KiB, or some; ``None`` without a required build id."""
    budget = budget or ReadBudget()
    head = budget.pread(fd, _HEAD_BYTES, 0)
    layout = _LAYOUTS.get(head[:6])
    if layout is None or len(head) < layout.header.size:
        return None
    kind, phoff, shoff, phsize, phnum, shsize, shnum = layout.header.unpack_from(head)
    if kind not in _EXECUTABLE or phsize != layout.segment.size or phnum > MAX_SEGMENTS:
        return None
    end = phoff + phsize * phnum
    raw = head[phoff:end] if end <= len(head) else budget.pread(fd, end - phoff, phoff)
    headers = [
        [header[field] for field in layout.segment_fields]
        for header in layout.segment.iter_unpack(raw[: len(raw) // phsize * phsize])
    ]
    notes = [(offset, size) for kind, _, offset, _, size, _ in headers if kind == _PT_NOTE]
    build_id = _find_build_id(fd, budget, head, notes) or b""
    if require_build_id and not build_id:
        return None
    segments = tuple(
        Segment(offset, address, size, memory_size, bool(flags & _PF_X))
        for kind, flags, offset, address, size, memory_size in headers
        if kind == _PT_LOAD
    )
    return ElfFile(fd, budget, build_id, segments, layout, SectionTable(shoff, shsize, shnum))


def _find_build_id(
    fd: int, budget: ReadBudget, head: bytes, parts: Sequence[tuple[int, int]]
) -> bytes | None:
    notes = 0
    for offset, part_size in parts:
        size = min(part_size, _MAX_NOTE_BYTES)
        end = offset + size
        raw = head[offset:end] if end <= len(head) else budget.pread(fd, size, offset)
        begin = 0
        while begin + _NOTE.size <= len(raw):
            notes += 1
            if notes > _MAX_NOTES:
                return None
            name_size, value_size, kind = _NOTE.unpack_from(raw, begin)
            name = begin + _NOTE.size
            value = name + (name_size + 3 & ~3)
            if kind == _NT_GNU_BUILD_ID and raw[name:value] == b"GNU\0":
                build_id = raw[value : value + value_size]
                if 0 < value_size == len(build_id):
                    return build_id
            begin = value + (value_size + 3 & ~3)
    return None
