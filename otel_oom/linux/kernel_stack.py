"""Trim a kernel stack to the frames from the OOM decision outwards, without tracing's own.

A function that is traced at its exit has two frames of tracing between itself and its caller: the
trampoline that calls it and then the BPF program, and its own first bytes, which call that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from otel_oom.model.event_base import function_name

DECISION_FUNCTION: Final = "oom_kill_process"
_INNERMOST: Final = ("mark_oom_victim", DECISION_FUNCTION, "out_of_memory")
_PRINTING: Final = ("dump_", "show_stack")


def trim_to_decision(frames: Sequence[str]) -> tuple[str, ...]:
    """Return the frames from the decision outwards.

    Frames within the decision are those of tracing and printing. Each of ``frames`` is a
    ``function+0x1a2``, or empty.
    """
    begin = _find_decision(frames)
    if begin is None:
        begin = _skip_tracing(frames)
    trimmed: list[str] = []
    traced = False
    for frame in filter(None, frames[begin:]):
        repeated = traced and trimmed and function_name(trimmed[-1]) == function_name(frame)
        traced = _is_trampoline(frame)
        if not traced and not repeated:
            trimmed.append(frame)
    return tuple(trimmed)


def _find_decision(frames: Sequence[str]) -> int | None:
    for name in _INNERMOST:
        for index, frame in enumerate(frames):
            if frame.startswith(name):
                return index
    return None


def _skip_tracing(frames: Sequence[str]) -> int:
    """Return the index after the innermost frames of tracing or printing."""
    inner = [_is_trampoline(frame) or frame.startswith(_PRINTING) for frame in frames]
    if True not in inner:
        return 0
    first = inner.index(True)
    return inner.index(False, first) if False in inner[first:] else len(frames)


def _is_trampoline(frame: str) -> bool:
    return "trampoline" in function_name(frame)
