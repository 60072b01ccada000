"""What of a log is near a kill: blocks of it are searched, and few of its lines are looked at.

A report is some hundred lines that end with the kill's own. So lines are handed on from where a
report begins to where a victim is named, and else only those that have a sign themselves. Of what
is passed over the last line is handed on: time goes on there as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from otel_oom.commands.replay.decompress import Stream

BLOCK_BYTES: Final = 1 << 20
MOST_LINE_BYTES: Final = 1 << 16
"""The longest line that is kept from one block to the next. The kernel's own are of 1 KiB; as JSON,
with some forty fields beside them, of a few."""

_REPORT_LINES: Final = 1 << 16
"""How long a report can be that kills nobody: its table has a line for each process."""

_BEGINS: Final = (
    # invoked oom-killer:
    rb"killer: "
    # Bytes that are no UTF-8 stand as numbers in JSON: what they say is seen when they are read.
    rb'|MESSAGE" ?: ?\['
    # Of a panic the stack follows: … panic_on_oom is enabled; System is deadlocked on memory
    rb"|_on_oom is enabled|ked on memory"
)
_ENDS: Final = (
    rb"Killed process |killed process |Kill process |kill process |killing process |OOM victim "
    # no killable processes
    rb"|killable processes"
)
_BESIDE: Final = (
    # oom-kill:constraint=…; … memory.oom.group set; oom_reaper: …
    rb"kill:|killed due to memory|_reaper: |Memory limit reached|killed as a result of limit"
    # What tells of another boot: the kernel, and journalctl.
    rb"|Linux version |Boot |Reboot "
)
_SIGN: Final = re.compile(b"|".join((_BEGINS, _ENDS, _BESIDE)))
"""What to look at a line for. Each sign begins with a letter that few words begin with, and there
is no group and no set of letters in front: then the search passes over the rest at once."""
_BEGIN: Final = re.compile(_BEGINS)
_END: Final = re.compile(_ENDS)


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line as it stands in a file, without its end.

    ``near`` is whether it may be of a kill; others only tell how late it is.
    """

    text: bytes
    near: bool


class ReportWindow:
    """Which lines are of a report that has begun."""

    def __init__(self) -> None:
        """Begin outside of any."""
        self._left = 0

    @property
    def is_open(self) -> bool:
        """Whether the next line belongs to it, whatever it says."""
        return self._left > 0

    def sign(self, text: bytes, begin: int = 0, end: int | None = None) -> re.Match[bytes] | None:
        """The first sign of a kill in that part of ``text``."""
        return _SIGN.search(text, begin, len(text) if end is None else end)

    def take(self, line: bytes, sign: re.Match[bytes] | None) -> RawLine:
        """A line that is near a kill, and what its sign does to what follows."""
        if sign is None:
            self._left -= 1
        elif _BEGIN.fullmatch(sign[0]):
            self._left = _REPORT_LINES
        elif _END.fullmatch(sign[0]):
            self._left = 0
        return RawLine(line, near=True)


def prefilter_lines(blocks: Iterator[bytes]) -> Iterator[RawLine]:
    """The lines that matter, in their order; each block ends with a line's end."""
    window = ReportWindow()
    for block in blocks:
        yield from _of_block(block, window)


def _of_block(block: bytes, window: ReportWindow) -> Iterator[RawLine]:
    at = 0
    while at < len(block):
        if window.is_open:
            begin, end = at, block.find(b"\n", at)
            sign = window.sign(block, begin, end)
        else:
            sign = window.sign(block, at)
            begin = block.rfind(b"\n", at, sign.start() if sign else len(block) - 1) + 1 or at
            end = block.find(b"\n", sign.end() if sign else begin)
            if sign is None:
                yield RawLine(block[begin:end], near=False)
                return
            if begin > at:
                before = block.rfind(b"\n", at, begin - 1) + 1 or at
                yield RawLine(block[before : begin - 1], near=False)
        yield window.take(block[begin:end], sign)
        at = end + 1


def whole_lines(
    stream: Stream, progress: Callable[[int], None] = lambda _: None
) -> Iterator[bytes]:
    """The stream in blocks that end with a line's end; a line that is too long is left out.

    ``progress`` is called with the number of bytes of each block. Raises what the stream raises.
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
        if len(rest) > MOST_LINE_BYTES:
            rest, too_long = b"", True
    if rest:
        yield rest + b"\n"
