"""Join the pieces of a long line: a long path splits it, other lines may stand between.

The kernel prints the choice and the line of a group by pr_cont(), piece by piece. Another processor
may print meanwhile.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.syslog_line import CONTINUATIONS

MAX_CHARS: Final = 1 << 13
"""The longest line that is parsed, with its pieces joined; the kernel's are shorter."""

BEGINNINGS: Final = ("oom-kill:", "Tasks in /")
_MAX_BETWEEN: Final = 64


class PieceJoiner(Struct):
    """The last line of one printing thread that may go on, with the number of its last piece."""

    text: str = ""
    line_number: int = 0

    def join(self, line: Line, line_number: int) -> tuple[str, bool]:
        """Return the text with the pieces before it, and whether the last one directly precedes."""
        between = line_number - self.line_number - 1
        if not line.continues:
            if line.text.startswith(BEGINNINGS):
                self.text, self.line_number = line.text[: MAX_CHARS + 1], line_number
            elif between > _MAX_BETWEEN:
                self.text = ""
            return line.text, False
        if not self.text or (between and not line.text.startswith(CONTINUATIONS)):
            return line.text, not between
        self.text = (self.text + line.text)[: MAX_CHARS + 1]
        self.line_number = line_number
        return self.text, not between
