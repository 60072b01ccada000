"""Kernel addresses into the names that a backtrace shows, by the kernel itself.

A small cache makes a storm cost no more than its first kill. Addresses stay in this module: what
leaves it are names and offsets, which do not tell where the kernel is in memory.
"""

from __future__ import annotations

import ctypes
from typing import Final

from otel_oom.capture.libbpf import BpfObject, LibbpfError

SYMBOL_LEN: Final = 96
_MOST_CACHED: Final = 4096


class Symbols:
    """Names for the addresses of one boot."""

    def __init__(self, loaded: BpfObject) -> None:
        """Ask by the program ``resolve_symbol`` of ``loaded``."""
        self._object = loaded
        self._names: dict[int, str] = {}
        self._unable = False

    def name(self, address: int) -> str:
        """``function+0x1a2``, and its module's name; empty where the kernel can't tell."""
        known = self._names.get(address)
        if known is None:
            known = self._ask(address)
            if len(self._names) < _MOST_CACHED:
                self._names[address] = known
        return known

    def _ask(self, address: int) -> str:
        if self._unable:
            return ""
        try:
            length = self._object.run("resolve_symbol", ctypes.c_uint64(address))
            raw = self._object.value("oom_symbol", SYMBOL_LEN)
        except LibbpfError:
            length = -1
        if length <= 0:
            # A kernel before 5.13, or one that lets nobody run programs this way.
            self._unable = True
            return ""
        return _shown(raw.split(b"\0")[0].decode("ascii", errors="replace"))


def _shown(symbol: str) -> str:
    """``function+0x1a2/0x400 [module]`` less the function's size; an unknown one is none."""
    if symbol.startswith("0x"):
        return ""
    function, _, module = symbol.partition(" ")
    return f"{function.partition('/')[0]} {module}".rstrip()
