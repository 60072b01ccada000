"""Select the lines of a log that are near a kill; only these are parsed.

A report is some hundred lines; the last one names the victim. From its first line to that one, all
lines are passed on. Outside of reports, only lines with a sign of a kill are passed on, and the
last line of each skipped part, for its time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from otel_oom.commands.replay.decompress import Stream
from otel_oom.commands.replay.signs import BEGINS, CHOICE, ENDS, SIGN, WINDOWS

BLOCK_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 1 << 16
"""Longest line that may cross the end of a block. A line of the kernel has at most 1 KiB. A journal
entry as JSON has some forty more fields, and a few KiB."""

_REPORT_LINES: Final = 1 << 16
"""Longest report that names no victim: its table has a line for each process."""

_PIECE_LINES: Final = 64
_BODY: Final = (b": usage ", b"Memory cgroup stats for ", b" total_vm ")
"""Parts of a report that no other message has."""
_BODY_BYTES: Final = 1 << 18
"""How far a report without its head is searched for: its table has some 100 bytes a process."""


class RawLine(Struct, frozen=True):
    """A line of a file, without its end; if not ``relevant``, only its time matters."""

    text: bytes
    relevant: bool


class ReportWindow:
    """Tracker of the report that has begun, if any."""

    def __init__(self) -> None:
        self._remaining = 0

    @property
    def is_open(self) -> bool:
        """Return true if the next line belongs to a report, whatever its text."""
        return self._remaining > 0

    def open(self) -> None:
        """Let the next line begin a report."""
        self._remaining = _REPORT_LINES

    def may_follow_body(self, sign: re.Match[bytes] | None) -> bool:
        """Return whether a line with this sign ends a report, of which no head came before."""
        return sign is not None and (sign[0] == CHOICE or sign[0] in ENDS)

    def advance(self, line: bytes, sign: re.Match[bytes] | None) -> RawLine:
        """Return a relevant line; its sign may begin or end a report."""
        if sign is None:
            self._remaining -= 1
        elif sign[0] in BEGINS:
            self.open()
        elif sign[0] == CHOICE and not self.is_open:
            # Its line may be in pieces, and its kill follows.
            self._remaining = _PIECE_LINES
        elif sign[0] in ENDS:
            self._remaining = 0
        elif sign[0] in WINDOWS:
            self._remaining = max(self._remaining, WINDOWS[sign[0]])
        return RawLine(line, relevant=True)


def prefilter_lines(blocks: Iterator[bytes], *, keep_all: bool = False) -> Iterator[RawLine]:
    """Yield the lines that matter, in their order; each block ends with a newline.

    With ``keep_all`` also all others, for their times.
    """
    window = ReportWindow()
    for block in blocks:
        yield from _all_of_block(block, window) if keep_all else _of_block(block, window)


def _all_of_block(block: bytes, window: ReportWindow) -> Iterator[RawLine]:
    for line in block[:-1].split(b"\n"):
        sign = SIGN.search(line)
        is_relevant = sign is not None or window.is_open
        yield window.advance(line, sign) if is_relevant else RawLine(line, relevant=False)


def _of_block(block: bytes, window: ReportWindow) -> Iterator[RawLine]:
    position = 0
    while position < len(block):
        if window.is_open:
            begin, end = position, block.find(b"\n", position)
            sign = SIGN.search(block, begin, end)
        else:
            sign = SIGN.search(block, position)
            last = sign.start() if sign else len(block) - 1
            begin = block.rfind(b"\n", position, last) + 1 or position
            end = block.find(b"\n", sign.end() if sign else begin)
            if sign is None:
                yield RawLine(block[begin:end], relevant=False)
                return
            if begin > position:
                body = find_body(block, position, begin) if window.may_follow_body(sign) else -1
                if body >= 0:
                    begin, sign = block.rfind(b"\n", position, body) + 1 or position, None
                    end = block.find(b"\n", body)
                    window.open()
            if begin > position:
                skipped = block.rfind(b"\n", position, begin - 1) + 1 or position
                yield RawLine(block[skipped : begin - 1], relevant=False)
        yield window.advance(block[begin:end], sign)
        position = end + 1


def find_body(block: bytes, begin: int, end: int) -> int:
    """Return where a report without its head begins; -1 for none, as mostly in a storm."""
    begin = max(begin, end - _BODY_BYTES)
    found = (block.find(mark, begin, end) for mark in _BODY)
    return min((position for position in found if position >= 0), default=-1)


def read_blocks(
    stream: Stream,
    progress: Callable[[int], None] = lambda _: None,
    on_too_long: Callable[[bytes], None] = lambda _: None,
) -> Iterator[bytes]:
    """Yield the stream in blocks that end with a newline, without lines that are too long.

    ``progress`` is called with the number of bytes of each block, ``on_too_long`` with each part of
    a line that is left out. Raises the errors of the stream.
    """
    rest, too_long = b"", False
    while data := stream.read(BLOCK_BYTES):
        progress(len(data))
        end = data.rfind(b"\n") + 1
        if end:
            begin = data.find(b"\n") + 1 if too_long else 0
            on_too_long(data[:begin])
            yield rest + data[begin:end]
            rest, too_long = data[end:], False
        elif too_long:
            on_too_long(data)
        else:
            rest += data
        if len(rest) > MAX_LINE_BYTES:
            on_too_long(rest)
            rest, too_long = b"", True
    if rest:
        yield rest + b"\n"
