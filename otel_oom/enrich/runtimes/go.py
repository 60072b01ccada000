"""The memory limit of Go.

Sources: "A Guide to the Go Garbage Collector", which leaves 5 to 10 % of a container's limit for
memory that the runtime does not know; package runtime, "Environment Variables". Go has no limit by
default, and a heap may grow by GOGC, 100 %, over what is live.
"""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.runtimes.bound import HeapBound, Memory, Reserve
from otel_oom.enrich.runtimes.options import parse_size
from otel_oom.linux.runtimes.settings import format_setting
from otel_oom.model.runtime import RuntimeSettings
from otel_oom.model.units import MIB

_SUBJECT: Final = "the memory of Go"
_RESERVE: Final = Reserve(10, 0, "what Go's runtime does not count")
_VARIABLE: Final = "GOMEMLIMIT"
_OFF: Final = "off"


def bound_go(runtime: RuntimeSettings, memory: Memory) -> HeapBound | None:
    """Return the bound of the memory; ``None`` if a variable that was not read may decide it."""
    value = runtime.settings.get(_VARIABLE)
    fitting = f"{_VARIABLE}={(memory.limit - _RESERVE.size(memory.limit)) // MIB}MiB"
    if value is not None and value != _OFF:
        size = parse_size(value)
        text = format_setting(_VARIABLE, value)
        return HeapBound(_SUBJECT, text, size, _RESERVE, fitting, is_soft=True) if size else None
    if value is None and not runtime.is_complete:
        return None
    growth = runtime.settings.get("GOGC", "100")
    text = (
        "GOGC=off, without GOMEMLIMIT"
        if growth == _OFF
        else f"no GOMEMLIMIT, and GOGC={growth} lets the heap grow by {growth} % of what is live"
    )
    is_default = growth != _OFF
    return HeapBound(_SUBJECT, text, None, _RESERVE, fitting, is_default=is_default, is_soft=True)
