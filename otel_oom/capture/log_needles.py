"""Whether a block of a log can tell of a kill at all, by its bytes and next to no work.

A log is large and has few kills. A block with none of these strings has no line that begins or
ends a report; as long as none has begun (:attr:`KernelLogParser.in_report`), its lines need not
even be told apart. Looking for one string after the other takes a third of the time that one
expression with all of them takes.
"""

from __future__ import annotations

from typing import Final

MAY_TELL: Final = (
    b"Killed process ",
    b"Kill process ",
    b"kill process ",
    # With a letter of either case before it.
    b"illing process ",
    b"oom-kill",
    b"OOM victim ",
    b"killable processes",
    b"memory.oom.group",
    b"oom_reaper: reaped",
)
"""What each line has that begins, decides or ends a report, in any form of any kernel."""


def may_tell(block: bytes | bytearray) -> bool:
    """Whether a line in ``block`` may be one of those; one that is cut at its end, too, may."""
    return any(needle in block for needle in MAY_TELL)
