"""The text of a report as it was logged, from its first line to its kill."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from otel_oom.model.text import escape_controls

MOST_TEXT: Final = 1 << 15
"""So many characters are kept of a report: one with 300 processes. Loki takes twice as much."""
_HEAD: Final = 5 << 12
"""Of a longer one its beginning, in which its first processes are, and its end."""


@dataclass(slots=True)
class Text:
    """Takes lines; of more than :data:`MOST_TEXT` it leaves out some in the middle."""

    _head: list[str] = field(default_factory=list)
    _tail: deque[str] = field(default_factory=deque)
    _head_left: int = _HEAD
    # The line that tells what is missing has its room too.
    _tail_left: int = MOST_TEXT - _HEAD - 128
    _left_out: int = 0

    def add(self, line: str, *, continues: bool = False) -> None:
        """Take a line, or a piece that continues the one before."""
        line = escape_controls(line)
        if continues and self._tail:
            before = self._tail.pop()
            self._tail_left += len(before) + 1
            line = before + line
        elif continues and self._head:
            before = self._head.pop()
            self._head_left += len(before) + 1
            line = before + line
        size = len(line) + 1
        if not self._tail and not self._left_out and size <= self._head_left:
            self._head.append(line)
            self._head_left -= size
            return
        self._tail.append(line)
        self._tail_left -= size
        while self._tail_left < 0:
            self._tail_left += len(self._tail.popleft()) + 1
            self._left_out += 1

    def __str__(self) -> str:
        """The lines, and between them how many are missing."""
        cut = [f"[… {self._left_out} lines are left out …]"] if self._left_out else []
        return "\n".join([*self._head, *cut, *self._tail])
