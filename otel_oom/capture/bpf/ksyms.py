"""Kernel addresses into the names that a backtrace shows, by the kernel itself.

Kernels since 5.13 name an address on request; before, its names are in ``/proc/kallsyms``, of
which one pass is made for a whole stack and nothing kept. A small cache makes a storm cost no
more than its first kill. Addresses stay in this module: what leaves it are names and offsets,
which do not tell where the kernel is in memory.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from otel_oom.capture.bpf.libbpf import LibbpfError
from otel_oom.capture.bpf.object import BpfObject

SYMBOL_LEN: Final = 96
_MOST_CACHED: Final = 4096

_KALLSYMS: Final = Path("/proc/kallsyms")
_SLICE_BYTES: Final = 1 << 16
_LINE_BYTES: Final = 512
_DIGITS: Final = ctypes.sizeof(ctypes.c_void_p) * 2
_FARTHEST: Final = 1 << 20
"""A function is shorter: what is farther behind a symbol is in none that we know."""


class KernelSymbolizer:
    """Names for the addresses of one boot."""

    def __init__(self, loaded: BpfObject | None, kallsyms: Path = _KALLSYMS) -> None:
        """Ask by the program ``resolve_symbol`` of ``loaded``, or read ``kallsyms`` for want of it.

        The file is read on kernels without bpf_snprintf() only, in a pass of some 0.1 s.
        """
        self._object = loaded
        self._kallsyms = kallsyms
        self._hidden = False
        self._names: dict[int, str] = {}

    def names(self, addresses: Sequence[int]) -> list[str]:
        """For each address ``function+0x1a2`` and its module's name, as of :meth:`name`.

        They are taken for return addresses: each belongs to the function of the byte before it
        (``sprint_backtrace()`` of kernel/kallsyms.c).
        """
        unknown = {address for address in addresses if address not in self._names}
        found: dict[int, str] = {}
        for address in unknown:
            name = self._ask(address)
            if name is None:
                break
            found[address] = name
        if len(found) < len(unknown):
            found = self._read(unknown)
        if len(self._names) + len(found) > _MOST_CACHED:
            self._names.clear()
        result = [found.get(it, self._names.get(it, "")) for it in addresses]
        self._names |= dict(list(found.items())[:_MOST_CACHED])
        return result

    def name(self, address: int) -> str:
        """The name of one address; empty where the kernel can't tell."""
        return self.names([address])[0]

    def _ask(self, address: int) -> str | None:
        """The name of an address by the kernel; ``None`` if it does not answer such questions."""
        if self._object is None:
            return None
        try:
            length = self._object.run("resolve_symbol", ctypes.c_uint64(address))
            raw = self._object.value("oom_symbol", SYMBOL_LEN)
        except LibbpfError:
            length = -1
        if length <= 0:
            # A kernel before 5.13, or one that lets nobody run programs this way.
            self._object = None
            return None
        return _shown(raw.split(b"\0")[0].decode("ascii", errors="replace"))

    def _read(self, addresses: Iterable[int]) -> dict[int, str]:
        """The names of addresses by the list of symbols; empty ones where that is hidden."""
        wanted = sorted(addresses)
        if self._hidden:
            return dict.fromkeys(wanted, "")
        nearest, self._hidden = _pass(self._kallsyms, [address - 1 for address in wanted])
        return {address: _of(line, address) for address, line in zip(wanted, nearest, strict=True)}


def _pass(kallsyms: Path, wanted: list[int]) -> tuple[list[bytes], bool]:
    """The line of the last symbol at or before each of ``wanted``, which ascend.

    Of the names of one address the first, as the kernel takes it. Also whether all addresses are
    hidden (``kernel.kptr_restrict``), so that they stand there as zeros.
    """
    # Numbers of one width are in the order of their digits: no line is parsed on the way.
    digits = [b"%0*x" % (_DIGITS, max(address, 0)) for address in wanted]
    best = [b""] * len(digits)
    hidden = True
    zero = b"0" * _DIGITS
    try:
        with kallsyms.open("rb", buffering=_SLICE_BYTES) as lines:
            for line in lines:
                address = line[:_DIGITS]
                if address == zero:
                    continue
                hidden = False
                at = bisect_left(digits, address)
                if at < len(best) and address > best[at][:_DIGITS]:
                    best[at] = line[:_LINE_BYTES]
    except OSError:
        pass
    for at in range(1, len(best)):
        best[at] = max(best[at], best[at - 1], key=lambda line: line[:_DIGITS])
    return best, hidden


def _of(line: bytes, address: int) -> str:
    """``function+0x1a2 [module]`` out of a line of kallsyms; empty if there is none near."""
    try:
        start, _, name, *module = line.decode("ascii", errors="replace").split()
        distance = address - int(start, 16)
    except ValueError:
        return ""
    # What stands in brackets is a module, but for two cases: programs of BPF, which a backtrace
    # shows without, and pages of tracing and probes, which it has no name for.
    kind = module[0] if module else ""
    if not 0 < distance <= _FARTHEST or kind.startswith("[__builtin__"):
        return ""
    return f"{name}+{distance:#x} {'' if kind == '[bpf]' else kind}".rstrip()


def _shown(symbol: str) -> str:
    """``function+0x1a2/0x400 [module]`` less the function's size; an unknown one is none."""
    if symbol.startswith("0x"):
        return ""
    function, _, module = symbol.partition(" ")
    return f"{function.partition('/')[0]} {module}".rstrip()
