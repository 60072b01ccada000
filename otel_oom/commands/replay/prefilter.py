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

BLOCK_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 1 << 16
"""Longest line that may cross the end of a block. A line of the kernel has at most 1 KiB. A journal
entry as JSON has some forty more fields, and a few KiB."""

_REPORT_LINES: Final = 1 << 16
"""Longest report that names no victim: its table has a line for each process."""

_BEGINS: Final = (
    # invoked oom-killer:
    rb"killer: "
    # In JSON, text that is not UTF-8 is an array of numbers: only parsing shows its content.
    rb'|MESSAGE" ?: ?\['
    # The stack follows a panic: … panic_on_oom is enabled; System is deadlocked on memory
    rb"|_on_oom is enabled|ked on memory"
)
_ENDS: Final = (
    rb"Killed process |killed process |Kill process |kill process |killing process |OOM victim "
    # no killable processes
    rb"|killable processes"
)
_OTHERS: Final = (
    # oom-kill:constraint=…; … memory.oom.group set; oom_reaper: …
    rb"kill:|killed due to memory|_reaper: |Memory limit reached|killed as a result of limit"
    # Start of a boot: by the kernel, and by journalctl.
    rb"|Linux version |Boot |Reboot "
)
SIGN: Final = re.compile(b"|".join((_BEGINS, _ENDS, _OTHERS)))
"""Signs of a kill. Each begins with a letter that is rare at the beginning of words. No group and
no character class comes first: then the search skips text without a sign quickly."""
_BEGIN: Final = re.compile(_BEGINS)
_END: Final = re.compile(_ENDS)


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

    def advance(self, line: bytes, sign: re.Match[bytes] | None) -> RawLine:
        """Return a relevant line; its sign may begin or end a report."""
        if sign is None:
            self._remaining -= 1
        elif _BEGIN.fullmatch(sign[0]):
            self._remaining = _REPORT_LINES
        elif _END.fullmatch(sign[0]):
            self._remaining = 0
        return RawLine(line, relevant=True)


def prefilter_lines(blocks: Iterator[bytes]) -> Iterator[RawLine]:
    """Yield the lines that matter, in their order; each block ends with a newline."""
    window = ReportWindow()
    for block in blocks:
        yield from _of_block(block, window)


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
                skipped = block.rfind(b"\n", position, begin - 1) + 1 or position
                yield RawLine(block[skipped : begin - 1], relevant=False)
        yield window.advance(block[begin:end], sign)
        position = end + 1


def read_blocks(
    stream: Stream, progress: Callable[[int], None] = lambda _: None
) -> Iterator[bytes]:
    """Yield the stream in blocks that end with a newline, without lines that are too long.

    ``progress`` is called with the number of bytes of each block. Raises the errors of the stream.
    """
    rest, too_long = b"", False
    while data := stream.read(BLOCK_BYTES):
        progress(len(data))
        end = data.rfind(b"\n") + 1
        if end:
            begin = data.find(b"\n") + 1 if too_long else 0
            yield rest + data[begin:end]
            rest, too_long = data[end:], False
        elif not too_long:
            rest += data
        if len(rest) > MAX_LINE_BYTES:
            rest, too_long = b"", True
    if rest:
        yield rest + b"\n"
