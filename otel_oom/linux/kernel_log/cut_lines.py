"""Lines that less(1), the pager of journalctl(1), has cut at the width of a terminal.

A mark is in place of the rest. Only what names the victim is read: a kill without its sizes is
better than none. A value that may be cut is unknown; an ellipsis ends a name that is cut.
"""

from __future__ import annotations

import re
from typing import Final

from otel_oom.linux.kernel_log import line_types
from otel_oom.linux.kernel_log.line_types import compile_pattern
from otel_oom.model.types import Memory
from otel_oom.model.units import KIB

CUT_MARK: Final = ">"

_COMM_CHARS: Final = 15
_MESSAGE: Final = r"(Out of [Mm]emory[^:]{0,40}|Memory cgroup out of memory)"
_SIZES: Final = (
    r"total-vm:(\d{1,17})kB, anon-rss:(\d{1,17})kB, file-rss:(\d{1,17})kB, shmem-rss:(\d{1,17})kB,"
)
_KILLED: Final = compile_pattern(
    rf"(?:{_MESSAGE}: )?Killed process (\d{{1,10}})(?:, UID \d{{1,10}},)? \((.{{0,80}})\)"
    rf"(?:, UID \d{{1,10}},)? (?:{_SIZES}.{{0,200}}|(?:total-vm|vsz):.{{0,120}})"
)
_KILLED_SHORT: Final = compile_pattern(
    rf"{_MESSAGE}: Killed process (\d{{1,10}}) \(([^()]{{1,{_COMM_CHARS}}})(\).{{0,10}})?"
)
_ANNOUNCED: Final = compile_pattern(
    rf"{_MESSAGE}: [Kk]ill process (\d{{1,10}}) \(([^()]{{1,{_COMM_CHARS}}})(\).{{0,60}})?"
)
_HEADER: Final = compile_pattern(
    r"(.{0,80}) invoked oom-killer: gfp_mask=(0|0x[0-9a-f]{1,16})(?:\(([^()]{0,500})\))?, "
    r"(?:nodemask=[^ ]{1,100}, {1,2})?order=(-?\d{1,3}),.{0,60}"
)


def parse_cut_line(text: str) -> line_types.LineType | None:
    """Return the value of a line that ends with the mark; ``None`` for all others."""
    if not text.endswith(CUT_MARK):
        return None
    text = text.removesuffix(CUT_MARK)
    if match := _KILLED.fullmatch(text):
        return line_types.KilledProcess(match[1], int(match[2]), match[3], memory=_memory(match))
    if match := _KILLED_SHORT.fullmatch(text):
        return line_types.KilledProcess(match[1], int(match[2]), _comm(match))
    if match := _ANNOUNCED.fullmatch(text):
        return line_types.KillAnnouncement(match[1], int(match[2]), _comm(match))
    if match := _HEADER.fullmatch(text):
        return line_types.OomHeader(match[1], int(match[2], 16), match[3], int(match[4]), None)
    return None


def _comm(match: re.Match[str]) -> str:
    is_whole = match[4] is not None
    return match[3] if is_whole else f"{match[3]}…"


def _memory(match: re.Match[str]) -> Memory | None:
    if match[4] is None:
        return None
    total_vm, anon, file, shmem = (int(match[index]) * KIB for index in (4, 5, 6, 7))
    return Memory(total_vm, anon, file, shmem, None, None)
