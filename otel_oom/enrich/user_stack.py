"""Symbols of user stacks: from frames of build id and offset to names of functions.

Runs after the kill is on disk, where it may take its time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from otel_oom.enrich.elf_file import open_elf, pad_build_id, path_below
from otel_oom.enrich.library_index import LibraryIndex
from otel_oom.linux.elf_symbols import find_symbols
from otel_oom.model.text import decode_bytes, escape_nonprintable
from otel_oom.model.types import UserFrame

_DEBUG: Final = "usr/lib/debug/.build-id"
_MAX_ROOTS: Final = 4
_MAX_CACHED_LINES: Final = 512

_Key = tuple[UserFrame, bool]
"""A frame, and whether it is a return address."""


class UserSymbolizer:
    """Names of user frames.

    Holds no file open and no symbol table. Not safe for use by several threads.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._index = LibraryIndex(root)
        self._lines: dict[_Key, str] = {}

    def symbolize(
        self,
        frames: Sequence[UserFrame],
        executables: Iterable[str] = (),
        roots: Iterable[Path] = (),
    ) -> tuple[str, ...]:
        """Return one line for each of ``frames``, which go from the innermost outwards.

        ``malloc+0x1d4 (libc.so.6)`` is a function, the distance in bytes from its start, and its
        file; ``libc.so.6+0x2a1b3`` a file and an offset in it, without a symbol;
        ``93ac61…+0x2a1b3`` a build id without a file. C++ and Rust names are not demangled.

        All frames but the first are return addresses, behind the call: each is looked up one
        byte before, because a call at the very end of a function returns into the next one.

        Args:
            frames: at most some tens; those of one file take one pass over its symbols.
            executables: paths of programs that may be among the files, as they see them.
            roots: other roots to search first, such as ``/proc/PID/root`` of a container.
        """
        keys = [(frame, index > 0) for index, frame in enumerate(frames)]
        unknown: dict[bytes, list[_Key]] = {}
        for key in keys:
            build_id = _padded_build_id(key[0])
            if key not in self._lines and build_id is not None:
                unknown.setdefault(build_id, []).append(key)
        lines: dict[_Key, str] = {}
        files = self._index.find(set(unknown), tuple(executables), tuple(roots)[:_MAX_ROOTS])
        for build_id, path in files.items():
            lines |= _symbolize_file(build_id, path, self._root, unknown[build_id])
        result = tuple(
            lines.get(key) or self._lines.get(key) or f"{key[0].build_id}+{key[0].offset:#x}"
            for key in keys
        )
        self._lines |= lines
        while len(self._lines) > _MAX_CACHED_LINES:
            del self._lines[next(iter(self._lines))]
        return result


def _symbolize_file(
    build_id: bytes, path: str, host_root: Path, keys: Iterable[_Key]
) -> dict[_Key, str]:
    name = escape_nonprintable(decode_bytes(os.fsencode(Path(path).name)))
    with open_elf(path) as file:
        if file is None or pad_build_id(file.build_id) != build_id:
            return {}
        # By frame the address to look up, and its distance to the address of the frame.
        addresses: dict[_Key, tuple[int, int]] = {}
        for key in keys:
            back = int(key[1])
            address = file.virtual_address(key[0].offset - back)
            if address is not None:
                addresses[key] = address, back
        wanted = {address for address, _ in addresses.values()}
        digits = file.build_id.hex()
        debug_path = path_below(host_root, f"{_DEBUG}/{digits[:2]}/{digits[2:]}.debug")
        with open_elf(debug_path) as debug_file:
            symbols = find_symbols(file, list(wanted))
            if debug_file is not None and debug_file.build_id == file.build_id:
                symbols |= find_symbols(debug_file, list(wanted - symbols.keys()))
            symbols |= find_symbols(file, list(wanted - symbols.keys()), exported=True)
    lines = {key: f"{name}+{key[0].offset:#x}" for key in keys}
    for key, (address, back) in addresses.items():
        symbol = symbols.get(address)
        if symbol is not None:
            lines[key] = f"{symbol.name}+{symbol.distance + back:#x} ({name})"
    return lines


def _padded_build_id(frame: UserFrame) -> bytes | None:
    """Return the build id as the kernel pads it; ``None`` if it is invalid."""
    try:
        return pad_build_id(bytes.fromhex(frame.build_id))
    except ValueError:
        return None
