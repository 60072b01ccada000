"""Which frames of a kernel stack are told: those from the decision outwards, and none of tracing's.

A function that is traced at its end has two frames of tracing between itself and its caller: the
trampoline that calls it and then the BPF program, and its own first bytes, which call that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_MARK: Final = "mark_oom_victim"
DECISION: Final = "oom_kill_process"
_BEGINNINGS: Final = (_MARK, DECISION, "out_of_memory")
_PRINTING: Final = ("dump_", "show_stack")


def outwards(frames: Sequence[str]) -> tuple[str, ...]:
    """The frames to tell of ``frames``, each a ``function+0x1a2`` or empty, as the kernel has them.

    Inside of the decision there are only those of tracing and of printing.
    """
    begin = _decision(frames)
    if begin is None:
        begin = _behind(frames)
    told: list[str] = []
    traced = False
    for frame in filter(None, frames[begin:]):
        called_twice = traced and told and _function(told[-1]) == _function(frame)
        traced = _is_trampoline(frame)
        if not traced and not called_twice:
            told.append(frame)
    return tuple(told)


def _decision(frames: Sequence[str]) -> int | None:
    for name in _BEGINNINGS:
        for at, frame in enumerate(frames):
            if frame.startswith(name):
                return at
    return None


def _behind(frames: Sequence[str]) -> int:
    """Where the innermost frames of tracing or of printing end."""
    inner = [_is_trampoline(frame) or frame.startswith(_PRINTING) for frame in frames]
    if True not in inner:
        return 0
    first = inner.index(True)
    return inner.index(False, first) if False in inner[first:] else len(frames)


def _is_trampoline(frame: str) -> bool:
    return "trampoline" in _function(frame)


def _function(frame: str) -> str:
    """Its name; a part that the compiler has set apart (``.cold``) is of it."""
    return frame.partition("+")[0].partition(".")[0]
