"""Read the kernel log by syslog(2), where /dev/kmsg can't be had.

It returns the end of the log as text. Each reading continues after the line that was read last,
which has a time in microseconds. A record with a newline, as a name can have, is several lines.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.record_number import number_syslog_record
from otel_oom.linux.kernel_log.syslog import log_buffer_bytes, read_log_tail
from otel_oom.linux.kernel_log.syslog_line import SyslogLine, parse_syslog_line

_FIRST_BYTES: Final = 1 << 16
"""Some reports. The whole log is read only if the last line is not in there."""
_GROWTH: Final = 8
_MAX_BYTES: Final = 1 << 23
_PREFIX_FACTOR: Final = 3
"""The prefixes make the text longer than the kernel's buffer."""
_RECORD_BYTES: Final = 1 << 13
"""More than any record: so much space left over means that the log has no older record."""
_MAX_TEXT_BYTES: Final = 1 << 13

_ENDS: Final = (
    (b"oom-kill:", b",uid="),
    (b"Killed process ", b" total-vm:"),
    (b"Kill process ", b" score "),
)
"""Beginning and end of the kernel's lines around a name, which may have a newline."""
_STARTS: Final = (b" invoked oom-killer: ", b"Killed process ", b"Kill process ")
"""Parts of lines that the kernel never prints in one microsecond with the line before.

So there they are the end of a longer record, in which somebody chose a name with a newline.
"""

PRINTK_TIME: Final = Path("/sys/module/printk/parameters/time")


class NoTimesError(OSError):
    """The lines of the log have no times."""


class SyslogReader:
    """Reader of the kernel's lines; has the interface of :class:`.KmsgReader`."""

    source = "syslog(2)"

    def __init__(
        self, *, from_start: bool = False, read_tail: Callable[[int], bytes] = read_log_tail
    ) -> None:
        """Begin at the end of the log, or with ``from_start`` at its oldest line.

        Raises:
            OSError: the log can't be read here.
        """
        self._read_tail = read_tail
        self._max_bytes = min(_MAX_BYTES, _PREFIX_FACTOR * log_buffer_bytes() + _RECORD_BYTES)
        self._last_line = b""
        self._text = b""
        self._position = 0
        self._time_us = -1
        self._index = 0
        self._after_loss = False
        self.sequence: int | None = None
        """Number of the record that was read last."""
        self.lost = 0
        """Gaps: lines before them were overwritten, or cleared, before they were read."""
        text = self._read_tail(_FIRST_BYTES)
        last = parse_syslog_line(_last_line(text).removesuffix(b"\n"))
        if text and (last is None or last.time_us is None):
            raise NoTimesError(errno.ENODATA, "its lines have no times")
        if not from_start:
            self._text = text
            for _ in self.read_lines(len(text)):
                pass
            self._last_line = _last_line(text)

    @property
    def has_unread(self) -> bool:
        """Whether lines that were read from the log have not been returned yet."""
        return self._position < len(self._text)

    def close(self) -> None:
        """Free the text that was not returned yet."""
        self._text, self._position = b"", 0

    def read_lines(self, max_records: int) -> Iterator[Line]:
        """Yield the kernel's lines that the log has by now, at most ``max_records``.

        Raises:
            OSError: the log can't be read any more.
        """
        if not self.has_unread:
            self._fetch()
        for _ in range(max_records):
            record = self._next_record()
            if record is None:
                self.close()
                return
            if record.time_us is None:
                continue
            self._index = self._index + 1 if record.time_us == self._time_us else 0
            self._time_us = record.time_us
            self.sequence = number_syslog_record(record.time_us, self._index)
            if record.is_kernel:
                after_loss, self._after_loss = self._after_loss, False
                yield record.to_line(self.sequence, after_loss=after_loss)

    def _fetch(self) -> None:
        """Read the text after the last line."""
        size = _FIRST_BYTES if self._last_line else self._max_bytes
        while True:
            size = min(size, self._max_bytes)
            text = self._read_tail(size)
            begin = _find_end(text, self._last_line)
            if begin is not None:
                break
            if size == self._max_bytes or size - len(text) > _RECORD_BYTES:
                begin = 0
                self.lost += 1
                self._after_loss = True
                break
            size *= _GROWTH
        self._text, self._position = text[begin:], 0
        self._last_line = _last_line(text) or self._last_line

    def _next_record(self) -> SyslogLine | None:
        """Return the next record, with all of its lines."""
        record = None
        while record is None and self.has_unread:
            record, self._position = self._parse_at(self._position)
        while record and len(record.text) < _MAX_TEXT_BYTES:
            following, position = self._parse_at(self._position)
            if following is None or not _is_same_record(record, following):
                break
            self._position = position
            record = SyslogLine(
                record.prefix,
                record.text + b"\n" + following.text,
                record.level,
                record.time_us,
                record.caller,
            )
        return record

    def _parse_at(self, position: int) -> tuple[SyslogLine | None, int]:
        end = self._text.find(b"\n", position)
        if end < 0:
            end = len(self._text)
        return parse_syslog_line(self._text[position:end]), end + 1


def _is_same_record(record: SyslogLine, following: SyslogLine) -> bool:
    if record.prefix != following.prefix:
        return False
    if any(begin in record.text and end not in record.text for begin, end in _ENDS):
        return True
    return any(part in following.text for part in _STARTS)


def _last_line(text: bytes) -> bytes:
    """Return the last line with its newline."""
    return text[text.rfind(b"\n", 0, -1) + 1 :]


def _find_end(text: bytes, line: bytes) -> int | None:
    """Return where the text after ``line`` begins; ``None`` if the line is not there."""
    if not line:
        return 0
    index = text.rfind(b"\n" + line)
    if index >= 0:
        return index + 1 + len(line)
    return len(line) if text.startswith(line) else None
