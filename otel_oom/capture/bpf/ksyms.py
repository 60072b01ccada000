"""Names of kernel addresses, as a backtrace shows them.

Kernels since 5.13 name an address on request (bpf_snprintf). Before that, ``/proc/kallsyms`` has
the names: it is read once for a whole stack, and nothing of it is kept. A small cache makes a storm
cost no more than its first kill. Addresses stay in this module: only names and offsets leave it,
which do not reveal where the kernel is in memory.
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
_MAX_CACHED: Final = 4096

_KALLSYMS: Final = Path("/proc/kallsyms")
_SLICE_BYTES: Final = 1 << 16
_MAX_LINE_BYTES: Final = 512
_DIGITS: Final = ctypes.sizeof(ctypes.c_void_p) * 2
_MAX_DISTANCE: Final = 1 << 20
"""Longer than any function: an address farther behind a symbol belongs to none."""


class KernelSymbolizer:
    """Resolver of the kernel addresses of one boot."""

    def __init__(self, loaded: BpfObject | None, kallsyms: Path = _KALLSYMS) -> None:
        """Use the program ``resolve_symbol`` of ``loaded``, or else read ``kallsyms``.

        The file is read only on kernels without bpf_snprintf(), in 0.1 s.
        """
        self._object = loaded
        self._kallsyms = kallsyms
        self._addresses_hidden = False
        self._cache: dict[int, str] = {}

    def names(self, addresses: Sequence[int]) -> list[str]:
        """Return ``function+0x1a2 [module]`` for each address; empty for an unknown one.

        Addresses are return addresses: each belongs to the function of the byte before it
        (``sprint_backtrace()`` of kernel/kallsyms.c).
        """
        missing = {address for address in addresses if address not in self._cache}
        resolved: dict[int, str] = {}
        for address in missing:
            name = self._resolve_by_bpf(address)
            if name is None:
                break
            resolved[address] = name
        if len(resolved) < len(missing):
            resolved = self._resolve_by_kallsyms(missing)
        if len(self._cache) + len(resolved) > _MAX_CACHED:
            self._cache.clear()
        names = [resolved.get(address, self._cache.get(address, "")) for address in addresses]
        self._cache |= dict(list(resolved.items())[:_MAX_CACHED])
        return names

    def name(self, address: int) -> str:
        """Return the name of one address."""
        return self.names([address])[0]

    def _resolve_by_bpf(self, address: int) -> str | None:
        """Query the kernel; return None if it can't resolve names, now or later."""
        if self._object is None:
            return None
        try:
            length = self._object.run("resolve_symbol", ctypes.c_uint64(address))
            raw = self._object.value("oom_symbol", SYMBOL_LEN)
        except LibbpfError:
            length = -1
        if length <= 0:
            # A kernel before 5.13, or one on which no program may be run this way.
            self._object = None
            return None
        return _without_size(raw.split(b"\0")[0].decode("ascii", errors="replace"))

    def _resolve_by_kallsyms(self, addresses: Iterable[int]) -> dict[int, str]:
        ascending = sorted(addresses)
        if self._addresses_hidden:
            return dict.fromkeys(ascending, "")
        rows, self._addresses_hidden = _nearest_symbols(
            self._kallsyms, [address - 1 for address in ascending]
        )
        return {
            address: _name_from_row(row, address)
            for address, row in zip(ascending, rows, strict=True)
        }


def _nearest_symbols(kallsyms: Path, ascending: list[int]) -> tuple[list[bytes], bool]:
    """Return the row of the last symbol at or before each of the ``ascending`` addresses.

    Of several names of one address it is the first, as in the kernel. The second value is true if
    all addresses are hidden (``kernel.kptr_restrict``): they are zeros then.
    """
    # Numbers of equal width are in the order of their digits: no row has to be parsed.
    digits = [b"%0*x" % (_DIGITS, max(address, 0)) for address in ascending]
    nearest = [b""] * len(digits)
    hidden = True
    zero = b"0" * _DIGITS
    try:
        with kallsyms.open("rb", buffering=_SLICE_BYTES) as rows:
            for row in rows:
                address = row[:_DIGITS]
                if address == zero:
                    continue
                hidden = False
                index = bisect_left(digits, address)
                if index < len(nearest) and address > nearest[index][:_DIGITS]:
                    nearest[index] = row[:_MAX_LINE_BYTES]
    except OSError:
        pass
    for index in range(1, len(nearest)):
        nearest[index] = max(nearest[index], nearest[index - 1], key=lambda row: row[:_DIGITS])
    return nearest, hidden


def _name_from_row(row: bytes, address: int) -> str:
    """Return ``function+0x1a2 [module]`` by a row of kallsyms; empty if it is too far."""
    try:
        start, _, name, *module = row.decode("ascii", errors="replace").split()
        distance = address - int(start, 16)
    except ValueError:
        return ""
    # Brackets hold a module, with two exceptions. A backtrace shows BPF programs without [bpf], and
    # has no name for pages of tracing and probes ([__builtin__ftrace] and others).
    kind = module[0] if module else ""
    if not 0 < distance <= _MAX_DISTANCE or kind.startswith("[__builtin__"):
        return ""
    return f"{name}+{distance:#x} {'' if kind == '[bpf]' else kind}".rstrip()


def _without_size(symbol: str) -> str:
    """Remove the size from ``function+0x1a2/0x400 [module]``; return nothing for an address."""
    if symbol.startswith("0x"):
        return ""
    function, _, module = symbol.partition(" ")
    return f"{function.partition('/')[0]} {module}".rstrip()
