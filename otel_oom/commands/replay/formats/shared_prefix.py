"""The prefix of lines of an unknown format: what stands before the kernel's own words in them.

Some lines of a report begin with words that nothing else does. What stands before those stands,
with other numbers, before the rest of the report too. The first line of a report begins with a name
that any process may choose, so it waits for the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from otel_oom.commands.replay.formats.log_line import TEXT, LoggedLine
from otel_oom.commands.replay.formats.wrapped import find_time, is_of_program
from otel_oom.model.text import decode_bytes

_MAX_PREFIX_BYTES: Final = 200
_WORDS: Final = re.compile(
    # Longer than the name of a process, which may stand in any line.
    rb"CPU: \d{1,5} (?:UID: \d{1,10} )?PID: \d{1,10} Comm: |Pid: \d{1,10}, comm: "
    rb"|memory: usage \d{1,19}kB, limit |Memory cgroup stats for |Tasks state \(memory values "
    rb"|oom-kill:constraint=CONSTRAINT_|(?:Memory cgroup o|O)ut of [Mm]emory: [Kk]ill"
    rb"|Tasks in /|oom_reaper: reaped process |\[ {1,8}pid {1,8}\] {1,12}uid {1,12}tgid "
)
_FIRST: Final = b" invoked oom-killer: "
_NUMBER: Final = re.compile(rb"( *\d+)")
_TAG: Final = re.compile(rb"[^\d\s] {0,8}: {1,8}\Z")
"""The name of a program, or of anything that is quoted."""


class SharedPrefix:
    """Remover of the prefix of a file's lines, learned from them."""

    def __init__(self) -> None:
        self._pattern: re.Pattern[bytes] | None = None
        self._first: bytes | None = None

    def parse(self, raw: bytes) -> Iterator[LoggedLine]:
        """Yield the line without its prefix; a report's first line only before the next one."""
        words = _WORDS.search(raw, 0, _MAX_PREFIX_BYTES)
        if words:
            self._pattern = _shape(raw[: words.start()])
        yield from self.finish()
        if words is None and self._pattern is None and _FIRST in raw:
            self._first = raw
        elif line := self._strip(raw):
            yield line

    def finish(self) -> Iterator[LoggedLine]:
        """Yield the line that still waits."""
        first, self._first = self._first, None
        if first is not None and (line := self._strip(first)):
            yield line

    def _strip(self, raw: bytes) -> LoggedLine | None:
        match = self._pattern.match(raw) if self._pattern else None
        prefix = match[0] if match else b""
        if prefix.endswith(b'"') and raw.endswith(b'"'):
            raw = raw[:-1]
        if _names_program(prefix):
            return None
        return LoggedLine(TEXT, decode_bytes(raw[len(prefix) :]), when=find_time(prefix))


def _shape(prefix: bytes) -> re.Pattern[bytes]:
    """Return a pattern of the same text with any numbers."""
    parts = _NUMBER.split(prefix)
    pieces = (rb" *\d+" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return re.compile(b"".join(pieces))


def _names_program(prefix: bytes) -> bool:
    return is_of_program(prefix) or _TAG.search(prefix) is not None
