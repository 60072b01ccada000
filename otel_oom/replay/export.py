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

from otel_oom.replay.blocks import BLOCK_BYTES, Raw, Window
from otel_oom.replay.unpack import Stream

BEGIN: Final = b"__CURSOR="
"""What journalctl(1) begins each entry with."""

_MOST_BYTES: Final = 1 << 20
"""The largest entry that is looked at; the journal has core dumps, too."""
_SIZE_BYTES: Final = 8
_COUNTED: Final = re.compile(rb"\n([A-Z0-9_]{1,64})\n")


def near_kills(stream: Stream, progress: Callable[[int], None] = lambda _: None) -> Iterator[Raw]:
    """The entries that matter, whole; the arguments are those of :func:`blocks.whole_lines`."""
    window = Window()
    for entry in _entries(stream, progress):
        sign = window.sign(entry)
        # Each entry has a time and a boot of its own: what is passed over tells nothing.
        if sign or window.is_open:
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


def _entries(stream: Stream, progress: Callable[[int], None]) -> Iterator[bytes]:
    """Each entry without its empty line; one that is too large is left out."""
    reader = _Reader(stream, progress)
    while reader.more(1):
        end, whole = reader.end_of_entry()
        if whole:
            yield reader.data[reader.at : end]
        reader.at = end + 2


class _Reader:
    """A stream as one piece of bytes with a place in it, of which only what is ahead is kept."""

    def __init__(self, stream: Stream, progress: Callable[[int], None]) -> None:
        self._stream = stream
        self._progress = progress
        self.data = b""
        self.at = 0

    def more(self, ahead: int) -> bool:
        """Whether so many bytes are ahead; reads what is missing."""
        while len(self.data) - self.at < ahead:
            block = self._stream.read(BLOCK_BYTES)
            if not block:
                return False
            self._progress(len(block))
            # Past the end of what is there the place is a distance to skip.
            self.data, self.at = self.data[self.at :] + block, max(0, self.at - len(self.data))
        return True

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
