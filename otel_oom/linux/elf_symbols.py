"""Find the functions at addresses in an ELF file's symbol tables.

Tables are read once, in slices and up to a bounded number of symbols: the file may be hostile.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from otel_oom.linux.elf import MAX_SECTIONS, ElfFile

_MAX_SYMBOLS: Final = 1 << 20
_SLICE_BYTES: Final = 48 * 1024  # a multiple of both sizes of a symbol
_MAX_ALIASES: Final = 16
_NAME_BYTES: Final = 256

_SHT_SYMTAB, _SHT_DYNSYM = 2, 11
_FUNCTIONS: Final = (2, 10)  # STT_FUNC, STT_GNU_IFUNC


class Symbol(NamedTuple):
    """A function's name as in the file, and the address's distance from its start, in bytes."""

    name: bytes
    distance: int


class _SymbolTable(NamedTuple):
    """A symbol table and its strings, in bytes of the file."""

    offset: int
    size: int
    strings: int
    strings_size: int


def find_symbols(
    file: ElfFile, addresses: Sequence[int], *, exported: bool = False
) -> dict[int, Symbol]:
    """Return the function that each virtual address is in, if there is one.

    One pass over ``.symtab``, which has all functions, or over ``.dynsym`` if ``exported``, which
    has those that other files may call.
    """
    table = _find_table(file, _SHT_DYNSYM if exported else _SHT_SYMTAB) if addresses else None
    if table is None:
        return {}
    search = _Search(sorted(set(addresses)))
    for offset, info, section, value, size in _read_entries(file, table):
        # A symbol without a section is defined in another file.
        if info & 0xF in _FUNCTIONS and section:
            search.offer(offset, value, size)
    symbols = {}
    for address, start, names in search.results():
        name = _read_name(file, table, names) if _in_same_segment(file, start, address) else b""
        if name:
            symbols[address] = Symbol(name, address - start)
    return symbols


def _in_same_segment(file: ElfFile, start: int, address: int) -> bool:
    return any(
        segment.address <= start <= address < segment.address + segment.memory_size
        for segment in file.segments
    )


def _find_table(file: ElfFile, section_type: int) -> _SymbolTable | None:
    headers, layout = file.sections, file.layout.section
    if headers.entry_size != layout.size or not 0 < headers.entries <= MAX_SECTIONS:
        return None
    raw = file.budget.pread(file.fd, layout.size * headers.entries, headers.offset)
    sections = list(layout.iter_unpack(raw[: len(raw) // layout.size * layout.size]))
    for kind, offset, size, link, entry_size in sections:
        is_wanted = kind == section_type and entry_size == file.layout.symbol.size
        if is_wanted and link < len(sections):
            return _SymbolTable(offset, size, sections[link][1], sections[link][2])
    return None


def _read_entries(file: ElfFile, table: _SymbolTable) -> Iterator[tuple[int, ...]]:
    """Return a table's symbols: name, info, section, value, size."""
    layout = file.layout.symbol
    name, info, section, value, size = file.layout.symbol_fields
    remaining = min(table.size // layout.size, _MAX_SYMBOLS) * layout.size
    offset = table.offset
    while remaining:
        raw = file.budget.pread(file.fd, min(remaining, _SLICE_BYTES), offset)
        raw = raw[: len(raw) // layout.size * layout.size]
        if not raw:
            return
        for entry in layout.iter_unpack(raw):
            yield entry[name], entry[info], entry[section], entry[value], entry[size]
        offset, remaining = offset + len(raw), remaining - len(raw)


def _read_name(file: ElfFile, table: _SymbolTable, names: Sequence[int]) -> bytes:
    """Return the plainest name of a function: ``malloc`` rather than ``__libc_malloc``."""
    texts = []
    for name in names:
        length = min(_NAME_BYTES, table.strings_size - name)
        if length > 0:
            raw = file.budget.pread(file.fd, length, table.strings + name).partition(b"\0")[0]
            # In .symtab its version follows.
            texts.append(raw.partition(b"@")[0])
    return min(
        filter(None, texts),
        key=lambda text: (len(text) - len(text.lstrip(b"_")), len(text), text),
        default=b"",
    )


class _Search:
    """Search for the function of each address, given symbols in any order."""

    __slots__ = ("_addresses", "_covering", "_nearest")

    def __init__(self, addresses: list[int]) -> None:
        """Search for ``addresses``, which are in ascending order."""
        self._addresses = addresses
        # By address: the start of a function, and its names by their offsets.
        self._covering: list[tuple[int, list[int]]] = [(-1, []) for _ in addresses]
        # The same for the nearest symbol; no names if it has a size, and ends before the address.
        self._nearest: list[tuple[int, list[int]]] = [(-1, []) for _ in addresses]

    def offer(self, name: int, value: int, size: int) -> None:
        """Take a symbol into account."""
        addresses = self._addresses
        index = bisect_left(addresses, value)
        if index == len(addresses):
            return
        _replace_if_nearer(self._nearest, index, value, None if size else name)
        while index < len(addresses) and addresses[index] < value + size:
            _replace_if_nearer(self._covering, index, value, name)
            index += 1

    def results(self) -> Iterator[tuple[int, int, list[int]]]:
        """Return each address in a function, that function's start, and its names.

        It is the innermost function that covers the address. Without one, it is a function without
        a size, such as one in assembler, if no other symbol is between it and the address.
        """
        nearest: tuple[int, list[int]] = (-1, [])
        for address, covering, near in zip(
            self._addresses, self._covering, self._nearest, strict=True
        ):
            nearest = max(nearest, near, key=lambda entry: entry[0])
            start, names = covering if covering[1] else nearest
            if names:
                yield address, start, names


def _replace_if_nearer(
    best: list[tuple[int, list[int]]], index: int, value: int, name: int | None
) -> None:
    """Put a symbol at ``index`` if it starts after the present one; an alias is added to it."""
    start, names = best[index]
    if value > start:
        best[index] = (value, [] if name is None else [name])
    elif value == start and name is not None and len(names) < _MAX_ALIASES:
        names.append(name)
