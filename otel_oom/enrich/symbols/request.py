"""What passes between the agent and the process that looks up symbols.

The agent sends a request by marshal, between equal interpreters. What comes back may be written by
a tenant: it is bytes in fields that end at a NUL.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MESSAGE_BYTES: Final = 1 << 16
MAX_FRAMES: Final = 64
_FIELDS: Final = 3
_MAX_DIGITS: Final = 20
"""Of a number of 64 bits."""


class FrameKey(NamedTuple):
    """A frame: the build id as the kernel has it, and the offset in that file.

    A return address is ``behind_call``: it is looked up one byte before.
    """

    build_id: bytes
    offset: int
    behind_call: bool


class SymbolRequest(NamedTuple):
    """Frames, and the files that may be theirs, in the order in which they are tried.

    The ``executables`` below each of their roots come first, then the libraries of each library
    root. Debug files are below ``debug_root``. Roots are the paths of directories. With an
    ``owner`` only files of that uid count.
    """

    frames: tuple[FrameKey, ...]
    executables: tuple[str, ...]
    executable_roots: tuple[str, ...]
    library_roots: tuple[str, ...]
    debug_root: str
    owner: int | None = None


class FrameSymbol(NamedTuple):
    """The path of a frame's file, its function and the distance from the function's start.

    The path is below a root of the request; of a long one it is the base name. Empty without a
    file; the function alone is empty without a symbol.
    """

    file: bytes
    function: bytes
    distance: int


NO_SYMBOL: Final = FrameSymbol(b"", b"", 0)


def pad_build_id(build_id: bytes) -> bytes:
    """Pad a short build id, as the kernel does (``parse_build_id()`` of lib/buildid.c)."""
    return build_id.ljust(20, b"\0")


def encode_symbols(symbols: list[FrameSymbol]) -> bytes:
    """Encode the symbols of a request's frames, in their order."""
    return b"\0".join(b"%s\0%s\0%d" % symbol for symbol in symbols)


def decode_symbols(message: bytes, frames: int) -> list[FrameSymbol] | None:
    """Decode the symbols of that many frames; ``None`` if the message is not theirs."""
    fields = message.split(b"\0")
    distances = fields[2::_FIELDS]
    are_numbers = all(each.isdigit() and len(each) <= _MAX_DIGITS for each in distances)
    if len(fields) != frames * _FIELDS or not are_numbers:
        return None
    return [
        FrameSymbol(file, function, int(distance))
        for file, function, distance in zip(*(fields[index::3] for index in range(3)), strict=True)
    ]
