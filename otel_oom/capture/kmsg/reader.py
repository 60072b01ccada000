"""Read the kernel log from /dev/kmsg, which gives one record for each read.

A record is ``level and facility,sequence,microseconds,flags[,caller=T1];text``, then lines of
``key=value`` (Documentation/ABI/testing/dev-kmsg). Records of user space have a facility other than
the kernel's, and are skipped.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_US

DEVICE: Final = Path("/dev/kmsg")
_KMSG: Final = os.makedev(1, 11)
"""Major and minor number (Documentation/admin-guide/devices.txt)."""

_RECORD_BYTES: Final = 1 << 13
"""The kernel's CONSOLE_EXT_LOG_MAX: no record is longer."""

_ESCAPE: Final = re.compile(rb"\\x([0-9a-fA-F]{2})")
_FACILITY_SHIFT: Final = 3
_RECORD: Final = re.compile(
    rb"([0-9]{1,10}),([0-9]{1,20}),([0-9]{1,20}),([^,;]*),?([^;]*);([^\n]*)"
)
"""Level, sequence, microseconds, flag, other fields, and the first line of the text."""


def decode_text(raw: bytes) -> str:
    r"""Decode bytes that the kernel printed; invalid UTF-8 stays as ``\xNN``.

    The kernel escapes the backslash, and all but printable ASCII.
    """
    if b"\\" in raw:
        raw = _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), raw)
    return decode_bytes(raw)


def parse_record(raw: bytes, *, after_loss: bool = False) -> Line | None:
    """Parse a record of the kernel; ``None`` for user space's and malformed ones."""
    record = _RECORD.match(raw)
    if not record:
        return None
    level, sequence, microseconds, flag, others, text = record.groups()
    if int(level) >> _FACILITY_SHIFT:
        return None
    return Line(
        text=decode_text(text),
        time_ns=int(microseconds) * NS_PER_US,
        sequence=int(sequence),
        caller=_parse_caller(others.split(b",")) if others else None,
        continues=flag == b"c",
        after_loss=after_loss,
        exact=True,
    )


def _parse_caller(fields: list[bytes]) -> int | None:
    """Return the thread id of ``caller=T123``; ``None`` for a processor (``C0``)."""
    for field in fields:
        if field.startswith(b"caller=T") and field[8:].isdigit():
            return int(field[8:][:10])
    return None


class KmsgReader:
    """Reader of the kernel's lines; counts those that were overwritten unread."""

    source = "/dev/kmsg"
    has_unread = False
    """The log itself keeps what was not read."""

    def __init__(self, device: Path = DEVICE, *, from_start: bool = False) -> None:
        """Open the log at its end, or with ``from_start`` at its oldest line.

        Raises:
            OSError: the log can't be read here.
        """
        self._fd = -1
        self.sequence: int | None = None
        """Number of the record that was read last."""
        self._after_loss = False
        self.lost = 0
        """Records of any writer that were overwritten before they were read."""
        try:
            self._fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._require_log()
            if not from_start:
                self._skip_to_end()
        except OSError:
            self.close()
            raise
        self.lost, self._after_loss = 0, False

    def _require_log(self) -> None:
        """Raise OSError where a container has another device of this name, such as its console."""
        status = os.fstat(self._fd)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev != _KMSG:
            raise OSError(errno.ENXIO, "it is another device")

    def _skip_to_end(self) -> None:
        """Read all records: the last one's number is needed to count lost ones later."""
        while self._read() is not None:
            pass

    def fileno(self) -> int:
        """Return a descriptor that is readable when the log has more."""
        return self._fd

    def close(self) -> None:
        """Close the log."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read_lines(self, max_records: int) -> Iterator[Line]:
        """Yield the kernel's lines that the log has by now.

        At most ``max_records`` are read, so that a flood of them delays nothing else.

        Raises:
            OSError: the log can't be read any more.
        """
        for _ in range(max_records):
            raw = self._read()
            if raw is None:
                return
            line = parse_record(raw, after_loss=self._after_loss)
            if line is not None:
                self._after_loss = False
                yield line

    def _read(self) -> bytes | None:
        while True:
            try:
                raw = os.read(self._fd, _RECORD_BYTES)
            except BlockingIOError:
                return None
            except BrokenPipeError:
                # The next read continues after the gap; its number has the size of that.
                self._after_loss = True
                continue
            self._count_lost(raw)
            return raw or None

    def _count_lost(self, raw: bytes) -> None:
        number = raw.split(b",", 2)[1:2]
        if not number or not number[0].isdigit():
            return
        sequence = int(number[0][:20])
        if self.sequence is not None and sequence > self.sequence + 1:
            self.lost += sequence - self.sequence - 1
            self._after_loss = True
        self.sequence = sequence
