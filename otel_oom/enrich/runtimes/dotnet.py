"""The heap of .NET.

Source: "Runtime configuration options for garbage collection" of .NET. Numbers in variables are
hexadecimal. In a container with a limit the default is three quarters of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from otel_oom.enrich.runtimes.bound import HeapBound, Memory, Reserve
from otel_oom.linux.runtimes.settings import format_setting
from otel_oom.model.runtime import RuntimeSettings

_SUBJECT: Final = "the heap of .NET"
_RESERVE: Final = Reserve(25, 0, "its threads, code and buffers")
_FITTING: Final = "DOTNET_GCHeapHardLimitPercent=0x4B (75 %)"
_PREFIXES: Final = ("DOTNET", "COMPlus")


def bound_dotnet(runtime: RuntimeSettings, memory: Memory) -> HeapBound | None:
    """Return the hard limit of the heap; ``None`` if a variable that was not read may decide it."""
    for size, text in _find_sizes(runtime, memory):
        return HeapBound(_SUBJECT, text, size, _RESERVE, _FITTING)
    if not runtime.is_complete:
        return None
    default = "its default in a container, 75 %"
    return HeapBound(_SUBJECT, default, memory.own * 3 // 4, _RESERVE, _FITTING, is_default=True)


def _find_sizes(runtime: RuntimeSettings, memory: Memory) -> Iterator[tuple[int, str]]:
    for option, unit_bytes in (
        ("GCHeapHardLimit", 1),
        ("GCHeapHardLimitPercent", memory.own / 100),
    ):
        for prefix in _PREFIXES:
            name = f"{prefix}_{option}"
            size = int(int(runtime.settings.get(name, "0"), 16) * unit_bytes)
            if size:
                yield size, format_setting(name, runtime.settings[name])
