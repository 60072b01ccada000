"""Which frames of a kernel stack are told: those from the decision outwards, and none of tracing's.

A traced function has a frame of tracing between itself and its caller: the trampoline that goes
to the BPF program, or, with a kretprobe, the one that the function returns to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MARK: Final = "mark_oom_victim"
DECISION: Final = "oom_kill_process"
_BEGINNINGS: Final = (MARK, DECISION, "out_of_memory")
_PRINTING: Final = ("dump_", "show_stack")


def outwards(frames: Sequence[str]) -> tuple[str, ...]:
    """The frames to tell of ``frames``, each a ``function+0x1a2`` or empty, as the kernel has them.

    Inside of the decision there are only those of tracing and of printing. A function that is
    traced at its end is not there any more: then they end with its trampoline.
    """
    begin = _decision(frames)
    if begin is None:
        begin = _behind(frames)
    return tuple(frame for frame in frames[begin:] if frame and not _is_trampoline(frame))


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
    return "trampoline" in frame.partition("+")[0]
