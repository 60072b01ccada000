"""Look up the symbols of a stack's frames; a program of its own.

It receives one request on descriptor 0, and sends one reply. It opens files first, with the rights
of the agent. Then it gives up all rights, and only then it reads what others wrote.
"""

from __future__ import annotations

import marshal
import os
from contextlib import suppress
from typing import Final

from otel_oom.enrich.symbols.candidates import MAX_FILES, Candidates
from otel_oom.enrich.symbols.request import (
    MESSAGE_BYTES,
    NO_SYMBOL,
    FrameKey,
    FrameSymbol,
    SymbolRequest,
    encode_symbols,
    pad_build_id,
)
from otel_oom.linux.elf import ElfFile, ReadBudget, read_elf
from otel_oom.linux.elf_symbols import find_symbols
from otel_oom.linux.sandbox import deny_system_calls, drop_privileges, limit_resources

_SOCKET: Final = 0
_STANDARD_FDS: Final = 3
_MEMORY_BYTES: Final = 48 << 20
"""Beyond what Python itself has mapped; a stack takes some 3 MB."""
_CPU_S: Final = 2
_BUDGET_CPU_S: Final = 0.75
"""After it the reply has what was found until then."""
_SPARE_FILES: Final = 256


def main() -> None:
    """Serve one request, and end without Python's own clean-up, which is not allowed here."""
    request = _receive_request()
    limit_resources(_MEMORY_BYTES, _CPU_S, MAX_FILES + _SPARE_FILES)
    budget = ReadBudget(cpu_s=_BUDGET_CPU_S)
    candidates = Candidates(request, budget)
    drop_privileges()
    deny_system_calls()
    os.write(_SOCKET, encode_symbols(find_frame_symbols(request.frames, candidates, budget)))
    os._exit(0)


def _receive_request() -> SymbolRequest:
    # A library in the agent may have left descriptors open for its children.
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  pathlib takes long to import
        if int(name) >= _STANDARD_FDS:
            with suppress(OSError):
                os.close(int(name))
    frames, *files = marshal.loads(os.read(_SOCKET, MESSAGE_BYTES))  # noqa: S302  by the agent
    return SymbolRequest(tuple(FrameKey(*frame) for frame in frames), *files)


def find_frame_symbols(
    frames: tuple[FrameKey, ...], candidates: Candidates, budget: ReadBudget
) -> list[FrameSymbol]:
    """Return the symbol of each frame, as far as the budget allows."""
    unknown = {frame.build_id for frame in frames}
    symbols = dict.fromkeys(frames, NO_SYMBOL)
    debug_files = [read_elf(fd, budget) for fd in candidates.debug_files]
    for fd, path in candidates.files:
        file = read_elf(fd, budget) if unknown else None
        build_id = pad_build_id(file.build_id) if file else b""
        if file and build_id in unknown:
            unknown.remove(build_id)
            debug_file = next(
                (each for each in debug_files if each and each.build_id == file.build_id), None
            )
            of_file = [frame for frame in frames if frame.build_id == build_id]
            symbols |= _find_in_file(of_file, path, file, debug_file)
    return [symbols[frame] for frame in frames]


def _find_in_file(
    frames: list[FrameKey], path: bytes, file: ElfFile, debug_file: ElfFile | None
) -> dict[FrameKey, FrameSymbol]:
    addresses = {frame: file.virtual_address(frame.offset - frame.behind_call) for frame in frames}
    wanted = {address for address in addresses.values() if address is not None}
    symbols = find_symbols(file, list(wanted))
    if debug_file is not None:
        symbols |= find_symbols(debug_file, list(wanted - symbols.keys()))
    symbols |= find_symbols(file, list(wanted - symbols.keys()), exported=True)
    return {
        frame: FrameSymbol(path, symbol.name, symbol.distance + frame.behind_call)
        if address is not None and (symbol := symbols.get(address))
        else FrameSymbol(path, b"", 0)
        for frame, address in addresses.items()
    }
