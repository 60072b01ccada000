"""As much of ELF as names a function: an executable's build id, its segments, its symbols.

The files are those of containers too, and hence hostile: each table is bounded and read in
slices, and what is malformed is as if it were not there. Little-endian files of 32 and 64 bits.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from otel_oom.model.text import decode_bytes, escape_nonprintable

HEAD_BYTES: Final = 4096
"""Headers and notes are in here nearly always."""

BUILD_ID_BYTES: Final = 20
"""BUILD_ID_SIZE_MAX (include/linux/buildid.h): the kernel tells none that is longer."""

_MOST_HEADERS: Final = 1024
_MOST_NOTE_BYTES: Final = 4096
_MOST_SYMBOLS: Final = 1 << 20
_SLICE_BYTES: Final = 48 * 1024  # a multiple of both sizes of a symbol
_MOST_ALIASES: Final = 16
_NAME_BYTES: Final = 256

_EXECUTABLE: Final = (2, 3)  # ET_EXEC, ET_DYN
_PT_LOAD, _PT_NOTE, _PF_X = 1, 4, 1
_SHT_SYMTAB, _SHT_DYNSYM = 2, 11
_NT_GNU_BUILD_ID: Final = 3
_FUNCTIONS: Final = (2, 10)  # STT_FUNC, STT_GNU_IFUNC


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the fields of one class of file are, for struct and by index (elf(5))."""

    header: struct.Struct  # type, phoff, shoff, phentsize, phnum, shentsize, shnum
    segment: struct.Struct
    segment_fields: tuple[int, ...]  # type, flags, offset, vaddr, filesz, memsz
    section: struct.Struct  # type, offset, size, link, entsize
    symbol: struct.Struct
    symbol_fields: tuple[int, ...]  # name, info, shndx, value, size


_LAYOUTS: Final = {
    b"\x7fELF\x01\x01": _Layout(
        struct.Struct("<16xH2x4x4xII4x2xHHHH"),
        struct.Struct("<8I"),
        (0, 6, 1, 2, 4, 5),
        struct.Struct("<4xI4x4xIII8xI"),
        struct.Struct("<IIIBBH"),
        (0, 3, 5, 1, 2),
    ),
    b"\x7fELF\x02\x01": _Layout(
        struct.Struct("<16xH2x4x8xQQ4x2xHHHH"),
        struct.Struct("<IIQQQQQQ"),
        (0, 1, 2, 3, 5, 6),
        struct.Struct("<4xI8x8xQQI4x8xQ"),
        struct.Struct("<IBBHQQ"),
        (0, 1, 3, 4, 5),
    ),
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the file that is mapped, in bytes; of a file of symbols alone ``size`` is zero."""

    offset: int
    address: int
    size: int
    memory_size: int
    executable: bool


@dataclass(frozen=True, slots=True)
class _Table:
    """A symbol table and its strings, in bytes of the file."""

    offset: int
    size: int
    strings: int
    strings_size: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function's name, and how far behind its start the address is, in bytes."""

    name: str
    distance: int


@dataclass(frozen=True, slots=True)
class Elf:
    """An executable or library, open at ``fd``; made by :func:`read`.

    ``build_id`` is of the length that the file gives it.
    """

    fd: int
    build_id: bytes
    segments: tuple[Segment, ...]
    _layout: _Layout
    _sections: tuple[int, int, int]  # offset, size of one, number

    def address(self, offset: int) -> int | None:
        """The virtual address of a file offset in code; ``None`` if nothing executable is there."""
        for segment in self.segments:
            if segment.executable and 0 <= offset - segment.offset < segment.size:
                return offset - segment.offset + segment.address
        return None

    def symbols(self, addresses: Sequence[int], *, exported: bool = False) -> dict[int, Symbol]:
        """The function that each virtual address is in, where one is known.

        One pass over ``.symtab``, which has all functions, or if ``exported`` over ``.dynsym``,
        which has those that other files may call.
        """
        table = self._table(_SHT_DYNSYM if exported else _SHT_SYMTAB) if addresses else None
        if table is None:
            return {}
        search = _Search(sorted(set(addresses)))
        for name, info, section, value, size in self._entries(table):
            # One that is not defined here is at no address.
            if info & 0xF in _FUNCTIONS and section:
                search.offer(name, value, size)
        found = {}
        for address, start, names in search.best():
            text = self._name(table, names) if self._together(start, address) else ""
            if text:
                found[address] = Symbol(text, address - start)
        return found

    def _together(self, start: int, address: int) -> bool:
        """Whether both addresses are in the same segment."""
        return any(
            segment.address <= start <= address < segment.address + segment.memory_size
            for segment in self.segments
        )

    def _table(self, wanted: int) -> _Table | None:
        """The first symbol table of that section type."""
        offset, size, number = self._sections
        layout = self._layout.section
        if size != layout.size or not 0 < number <= _MOST_HEADERS:
            return None
        raw = _pread(self.fd, size * number, offset)
        sections = list(layout.iter_unpack(raw[: len(raw) // size * size]))
        for kind, start, length, link, entry in sections:
            if kind == wanted and entry == self._layout.symbol.size and link < len(sections):
                return _Table(start, length, sections[link][1], sections[link][2])
        return None

    def _entries(self, table: _Table) -> Iterator[tuple[int, ...]]:
        """A table's symbols: name, info, section, value, size."""
        layout = self._layout.symbol
        name, info, section, value, size = self._layout.symbol_fields
        left = min(table.size // layout.size, _MOST_SYMBOLS) * layout.size
        at = table.offset
        while left:
            raw = _pread(self.fd, min(left, _SLICE_BYTES), at)
            raw = raw[: len(raw) // layout.size * layout.size]
            if not raw:
                return
            for entry in layout.iter_unpack(raw):
                yield entry[name], entry[info], entry[section], entry[value], entry[size]
            at, left = at + len(raw), left - len(raw)

    def _name(self, table: _Table, names: Sequence[int]) -> str:
        """Of the names of one function the plainest: ``malloc`` rather than ``__libc_malloc``."""
        texts = []
        for name in names:
            length = min(_NAME_BYTES, table.strings_size - name)
            if length > 0:
                raw = _pread(self.fd, length, table.strings + name).partition(b"\0")[0]
                # With its version in the table of all symbols.
                texts.append(raw.partition(b"@")[0])
        plainest = min(
            filter(None, texts),
            key=lambda it: (len(it) - len(it.lstrip(b"_")), len(it), it),
            default=b"",
        )
        return escape_nonprintable(decode_bytes(plainest))


def read(fd: int) -> Elf | None:
    """The file at ``fd``: one pread(2) of 4 KiB, or two. ``None``: no such file, or no build id."""
    head = _pread(fd, HEAD_BYTES, 0)
    layout = _LAYOUTS.get(head[:6])
    if layout is None or len(head) < layout.header.size:
        return None
    kind, phoff, shoff, phsize, phnum, shsize, shnum = layout.header.unpack_from(head)
    if kind not in _EXECUTABLE or phsize != layout.segment.size or phnum > _MOST_HEADERS:
        return None
    raw = _within(fd, head, phoff, phsize * phnum)
    fields = layout.segment_fields
    parts = [
        [part[field] for field in fields]
        for part in layout.segment.iter_unpack(raw[: len(raw) // phsize * phsize])
    ]
    build_id = _build_id(fd, head, [(p[2], p[4]) for p in parts if p[0] == _PT_NOTE])
    if build_id is None:
        return None
    segments = tuple(
        Segment(offset, address, size, memory_size, bool(flags & _PF_X))
        for kind, flags, offset, address, size, memory_size in parts
        if kind == _PT_LOAD
    )
    return Elf(fd, build_id, segments, layout, (shoff, shsize, shnum))


def _build_id(fd: int, head: bytes, notes: Sequence[tuple[int, int]]) -> bytes | None:
    """The first build id of the notes at those offsets and of those sizes."""
    for offset, size in notes:
        raw = _within(fd, head, offset, min(size, _MOST_NOTE_BYTES))
        at = 0
        while at + 12 <= len(raw):
            name_size, value_size, kind = struct.unpack_from("<III", raw, at)
            value = at + 12 + (name_size + 3 & ~3)
            if kind == _NT_GNU_BUILD_ID and raw[at + 12 : value] == b"GNU\0":
                found = raw[value : value + value_size]
                if 0 < value_size == len(found):
                    return found
            at = value + (value_size + 3 & ~3)
    return None


class _Search:
    """For each of some addresses the function that it is in, out of symbols in any order."""

    __slots__ = ("_covering", "_nearest", "_wanted")

    def __init__(self, wanted: list[int]) -> None:
        """Look for these, in ascending order."""
        self._wanted = wanted
        # By wanted address: the start of a function, and its names by their offsets.
        self._covering: list[tuple[int, list[int]]] = [(-1, []) for _ in wanted]
        # The same of the nearest symbol of any kind; no names if it has an end, which is before.
        self._nearest: list[tuple[int, list[int]]] = [(-1, []) for _ in wanted]

    def offer(self, name: int, value: int, size: int) -> None:
        """Take a symbol into account."""
        wanted = self._wanted
        at = bisect_left(wanted, value)
        if at == len(wanted):
            return
        _keep(self._nearest, at, value, None if size else name)
        while at < len(wanted) and wanted[at] < value + size:
            _keep(self._covering, at, value, name)
            at += 1

    def best(self) -> Iterator[tuple[int, int, list[int]]]:
        """Each address that is in a function, that function's start, and its names.

        The innermost that covers it; for want of one, that without a size, as of code written in
        assembler, if no other symbol is between it and the address.
        """
        nearest: tuple[int, list[int]] = (-1, [])
        for address, covering, near in zip(
            self._wanted, self._covering, self._nearest, strict=True
        ):
            nearest = max(nearest, near, key=lambda it: it[0])
            value, names = covering if covering[1] else nearest
            if names:
                yield address, value, names


def _keep(best: list[tuple[int, list[int]]], at: int, value: int, name: int | None) -> None:
    """Put a symbol in that place if it begins behind the one that is there, or where it does."""
    known, names = best[at]
    if value > known:
        best[at] = (value, [] if name is None else [name])
    elif value == known and name is not None and len(names) < _MOST_ALIASES:
        names.append(name)


def _within(fd: int, head: bytes, offset: int, size: int) -> bytes:
    """A part of the file, out of its head if it is there."""
    end = offset + size
    return head[offset:end] if end <= len(head) else _pread(fd, size, offset)


def _pread(fd: int, size: int, offset: int) -> bytes:
    """What is there of that part of the file; nothing if it can't be read."""
    try:
        return os.pread(fd, size, offset)
    except (OSError, OverflowError):
        return b""
