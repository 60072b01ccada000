"""The heap of a JVM.

Sources: java(1), "Advanced Garbage Collection Options"; "The JDK_JAVA_OPTIONS Launcher Environment
Variable" of it; JVM Tool Interface, "JAVA_TOOL_OPTIONS". ``Arguments::set_heap_size()`` of HotSpot
(src/hotspot/share/runtime/arguments.cpp) has the default: a quarter, of a small memory half.
"""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.runtimes.bound import HeapBound, Memory, Reserve
from otel_oom.enrich.runtimes.options import COMMAND_LINE, Setting, find_settings, parse_size
from otel_oom.model.runtime import RuntimeSettings
from otel_oom.model.units import MIB

_SUBJECT: Final = "the JVM's heap"
_RESERVE: Final = Reserve(25, 96 * MIB, "its threads, metaspace and buffers")
"""A quarter, as -XX:MaxRAMPercentage=75 leaves; a small program of Java 17 needs 60 to 90 MiB."""

_MAX_PERCENT: Final = 25.0
_MIN_PERCENT: Final = 50.0
_SMALL_HEAP_BYTES: Final = 1300 * 96 * MIB // 1000
"""MaxHeapSize: ``ScaleForWordSize(96*M)``, which is 30 % more on machines of 64 bits."""
_MAX_RAM_BYTES: Final = 128 * 1024 * MIB
_LEAST_HEAP_BYTES: Final = 32 * MIB
_PERCENT_STEP: Final = 5

_SIZES: Final = ("-Xmx", "-XX:MaxHeapSize")


def bound_jvm(runtime: RuntimeSettings, memory: Memory) -> HeapBound | None:
    """Return the bound of the heap; ``None`` if a setting that was not read may decide it."""
    # The launcher puts JDK_JAVA_OPTIONS before its own options.
    sources = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", COMMAND_LINE, "_JAVA_OPTIONS")
    settings = find_settings(runtime.settings, *sources)
    sizes = [setting for name, setting in settings.items() if name in _SIZES]
    percentage = settings.get("-XX:MaxRAMPercentage") or settings.get("-XX:MinRAMPercentage")
    if sizes:
        size = parse_size(sizes[-1].value)
        return None if size is None else _bound(size, sizes[-1].text, memory)
    if percentage:
        return _bound(_default_heap(settings, memory), percentage.text, memory)
    if runtime.is_complete:
        text = "its default without -Xmx and -XX:MaxRAMPercentage"
        return _bound(_default_heap(settings, memory), text, memory, is_default=True)
    return None


def _bound(size: int, text: str, memory: Memory, *, is_default: bool = False) -> HeapBound:
    return HeapBound(_SUBJECT, text, size, _RESERVE, _fitting(memory), is_default=is_default)


def _default_heap(settings: dict[str, Setting], memory: Memory) -> int:
    support = settings.get("-XX:")
    in_container = support is None or not support.value.startswith("-")
    machine = memory.own if in_container else memory.host or memory.own
    most = settings.get("-XX:MaxRAM")
    machine = min(machine, (parse_size(most.value) if most else None) or _MAX_RAM_BYTES)
    small = int(machine * _percent(settings, "-XX:MinRAMPercentage", _MIN_PERCENT) / 100)
    if small < _SMALL_HEAP_BYTES:
        return small
    usual = int(machine * _percent(settings, "-XX:MaxRAMPercentage", _MAX_PERCENT) / 100)
    return max(usual, _SMALL_HEAP_BYTES)


def _percent(settings: dict[str, Setting], name: str, default: float) -> float:
    setting = settings.get(name)
    return min(float(setting.value), 100.0) if setting else default


def _fitting(memory: Memory) -> str | None:
    heap = memory.limit - _RESERVE.size(memory.limit)
    if heap < _LEAST_HEAP_BYTES:
        return None
    # A percentage counts in a memory of which half is more than the heap of a small one.
    if memory.own < memory.limit or memory.limit < 2 * _SMALL_HEAP_BYTES + MIB:
        return f"-Xmx{heap // MIB}m"
    percent = heap * 100 // memory.limit // _PERCENT_STEP * _PERCENT_STEP
    return f"-XX:MaxRAMPercentage={percent}"
