"""The heap of Node.js.

Sources: node(1), "--max-old-space-size", which gives 1.5 GiB on a machine of 2 GiB, and
"NODE_OPTIONS". ``Heap::HeapSizeFromPhysicalMemory()`` of V8 (src/heap/heap.cc) has the default:
half of the memory, from 256 MiB to 2 GiB, or 4 GiB on a machine of 15 GiB.
"""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.runtimes.bound import HeapBound, Memory, Reserve
from otel_oom.enrich.runtimes.options import COMMAND_LINE, find_settings
from otel_oom.model.runtime import RuntimeSettings
from otel_oom.model.units import MIB

_SUBJECT: Final = "the heap of Node.js"
_RESERVE: Final = Reserve(25, 64 * MIB, "its new space, code and buffers")
_LEAST_DEFAULT_BYTES: Final = 256 * MIB
_MOST_DEFAULT_BYTES: Final = 2048 * MIB
_LARGE_MACHINE_BYTES: Final = 15 * 1024 * MIB
_LEAST_HEAP_BYTES: Final = 16 * MIB


def bound_nodejs(runtime: RuntimeSettings, memory: Memory) -> HeapBound | None:
    """Return the bound of the old space; ``None`` if a setting that was not read may decide it."""
    settings = find_settings(runtime.settings, "NODE_OPTIONS", COMMAND_LINE)
    size, percentage = (
        settings.get(f"--max-old-space-size{suffix}") for suffix in ("", "-percentage")
    )
    if size and int(size.value):
        return _bound(int(size.value) * MIB, size.text, memory)
    if percentage:
        part = int(memory.own * min(float(percentage.value), 100.0) / 100)
        return _bound(part, percentage.text, memory)
    if not runtime.is_complete:
        return None
    most = _MOST_DEFAULT_BYTES << (memory.own >= _LARGE_MACHINE_BYTES)
    default = min(max(memory.own // 2, _LEAST_DEFAULT_BYTES), most)
    text = "its default without --max-old-space-size"
    return _bound(default, text, memory, is_default=True)


def _bound(size: int, text: str, memory: Memory, *, is_default: bool = False) -> HeapBound:
    heap = memory.limit - _RESERVE.size(memory.limit)
    fitting = f"--max-old-space-size={heap // MIB}" if heap >= _LEAST_HEAP_BYTES else None
    return HeapBound(_SUBJECT, text, size, _RESERVE, fitting, is_default=is_default)
