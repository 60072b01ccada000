"""The journal's export format: entries, each of fields and an empty line.

A field is ``NAME=value`` and a newline, or, where the value may hold one, the name alone, a
newline, the value's size in 64 bits (little endian), the value and a newline (systemd's "Journal
Export Formats"). So where an entry ends is known by counting alone: the text of a field may look
like an entry of its own, and whoever logs it chooses that text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from otel_oom.commands.replay.decompress import Stream
from otel_oom.commands.replay.prefilter import BLOCK_BYTES, RawLine, ReportWindow

BEGIN: Final = b"__CURSOR="
"""What journalctl(1) begins each entry with."""

_MOST_BYTES: Final = 1 << 20
"""The largest entry that is looked at; the journal has core dumps, too."""
_SIZE_BYTES: Final = 8
_COUNTED: Final = re.compile(rb"\n[A-Z0-9_]{1,64}\n")


def near_kills(
    stream: Stream, progress: Callable[[int], None] = lambda _: None
) -> Iterator[RawLine]:
    """The entries that matter, whole; the arguments are those of :func:`blocks.whole_lines`."""
    window, reader = ReportWindow(), _Reader(stream, progress)
    while reader.more(1):
        if not window.is_open:
            # Each entry has a time and a boot of its own: what is passed over tells nothing.
            reader.pass_over(window)
        end, whole = reader.end_of_entry()
        entry = reader.data[reader.at : end] if whole else b""
        reader.at = end + 2
        sign = window.sign(entry)
        if sign or (window.is_open and whole):
            yield window.take(entry, sign)


def fields(entry: bytes) -> Mapping[str, bytes]:
    """The fields of an entry; of several of one name the first, as a value is trusted."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(entry):
        end = entry.find(b"\n", at)
        line = entry[at : end if end >= 0 else len(entry)]
        name, is_plain, value = line.partition(b"=")
        at += len(line) + 1
        if not is_plain:
            size = int.from_bytes(entry[at : at + _SIZE_BYTES], "little")
            at += _SIZE_BYTES
            value = entry[at : at + size]
            at += size + 1
        found.setdefault(name.decode("ascii", "replace"), value)
    return found


class _Reader:
    """A stream as one piece of bytes with a place in it, of which only what is ahead is kept."""

    def __init__(self, stream: Stream, progress: Callable[[int], None]) -> None:
        self._stream = stream
        self._progress = progress
        self.data = b""
        self.at = 0
        self._plain_to = 0
        """Up to where no field is counted."""

    def more(self, ahead: int) -> bool:
        """Whether so many bytes are ahead; reads what is missing."""
        while len(self.data) - self.at < ahead:
            block = self._stream.read(BLOCK_BYTES)
            if not block:
                return False
            self._progress(len(block))
            # Past the end of what is there the place is a distance to skip.
            self.data, self.at = self.data[self.at :] + block, max(0, self.at - len(self.data))
            self._plain_to = 0
        return True

    def pass_over(self, window: ReportWindow) -> None:
        """Go on to the entry of the next sign or counted field: up to there each is plain."""
        if self._plain_to <= self.at:
            counted = _COUNTED.search(self.data, self.at)
            self._plain_to = counted.start() if counted else len(self.data)
        sign = window.sign(self.data, self.at, self._plain_to)
        until = sign.start() if sign else self._plain_to
        before = self.data.rfind(b"\n\n", self.at, until)
        if before >= 0:
            self.at = before + 2

    def end_of_entry(self) -> tuple[int, bool]:
        """Where the entry ends, and whether all of it is at hand."""
        whole, past = True, 0
        while True:
            end = self.data.find(b"\n\n", self.at + past)
            until = end + 1 if end >= 0 else len(self.data)
            counted = _COUNTED.search(self.data, self.at + past, until)
            if counted:
                past = counted.end() - self.at + _SIZE_BYTES
                if not self.more(past):
                    return len(self.data), False
                size = self.data[self.at + past - _SIZE_BYTES : self.at + past]
                past += int.from_bytes(size, "little")
            elif end >= 0:
                return end, whole
            else:
                # A name may be cut off here: go on from the line that has no end yet.
                past = max(past, self.data.rfind(b"\n", self.at) - self.at)
            if past > _MOST_BYTES or len(self.data) - self.at > _MOST_BYTES + BLOCK_BYTES:
                self.at += past or len(self.data) - self.at - 1
                whole, past = False, 0
            if not self.more(past + 1 if counted else len(self.data) - self.at + 1):
                return len(self.data), whole and not counted and self.data.endswith(b"\n")
