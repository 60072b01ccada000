"""The text of a report as it was logged, from its first line to its kill."""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct, field

from otel_oom.model.text import escape_controls

MAX_TEXT_CHARS: Final = 1 << 15
"""A report with 300 processes. Loki accepts twice as much."""
_HEAD_CHARS: Final = 5 << 12
"""The part of a longer report before the omission: it has the first processes."""
_NOTE_CHARS: Final = 128


class ReportText(Struct):
    """Text of a report; beyond :data:`MAX_TEXT_CHARS` it lacks lines in the middle."""

    _head: list[str] = []
    _tail: deque[str] = field(default_factory=deque)
    _head_left: int = _HEAD_CHARS
    _tail_left: int = MAX_TEXT_CHARS - _HEAD_CHARS - _NOTE_CHARS
    _omitted: int = 0

    def add(self, line: str, *, continues: bool = False) -> None:
        """Add a line, or a piece that continues the one before."""
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
        if not self._tail and not self._omitted and size <= self._head_left:
            self._head.append(line)
            self._head_left -= size
            return
        self._tail.append(line)
        self._tail_left -= size
        while self._tail_left < 0:
            self._tail_left += len(self._tail.popleft()) + 1
            self._omitted += 1

    def __str__(self) -> str:
        note = [f"[… {self._omitted} lines are left out …]"] if self._omitted else []
        return "\n".join([*self._head, *note, *self._tail])
