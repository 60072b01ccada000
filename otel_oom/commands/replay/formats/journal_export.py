"""The journal's export format: entries of fields, with an empty line after each entry.

A field is ``NAME=value`` and a newline. A value with a newline in it is preceded by the name, a
newline and its size in 64 bits (little endian), and followed by a newline (systemd's "Journal
Export Formats"). Only the sizes show where an entry ends: the text of a field, which its writer
chooses, may look like an entry of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from otel_oom.commands.replay.decompress import Stream
from otel_oom.commands.replay.prefilter import (
    BLOCK_BYTES,
    RawLine,
    ReportWindow,
    find_body,
)
from otel_oom.commands.replay.signs import SIGN

BEGIN: Final = b"__CURSOR="
"""The beginning of each entry of journalctl(1)."""

_MAX_ENTRY_BYTES: Final = 1 << 20
"""The largest entry that is parsed; the journal contains core dumps, too."""
_SIZE_BYTES: Final = 8
_SIZED_FIELD: Final = re.compile(rb"\n[A-Z0-9_]{1,64}\n")
_END_OR_SIZED_FIELD: Final = re.compile(rb"\n(?:\n|[A-Z0-9_]{1,64}\n)")
_END: Final = b"\n\n"


def prefilter_entries(
    stream: Stream, progress: Callable[[int], None] = lambda _: None
) -> Iterator[RawLine]:
    """Yield the entries that matter; the arguments are those of :func:`prefilter.read_blocks`."""
    window, reader = ReportWindow(), _Reader(stream, progress)
    while reader.fill(1):
        if not window.is_open:
            # Each entry has its own time and boot, so skipped ones do not matter.
            reader.skip_plain(window)
        end, whole = reader.find_end()
        entry = reader.data[reader.position : end] if whole else b""
        reader.position = end + 2
        sign = SIGN.search(entry)
        if sign or (window.is_open and whole):
            yield window.advance(entry, sign)


def parse_fields(entry: bytes) -> Mapping[str, bytes]:
    """Return the fields of an entry; of several with one name the first, which journald sets."""
    fields: dict[str, bytes] = {}
    position = 0
    while position < len(entry):
        end = entry.find(b"\n", position)
        line = entry[position : end if end >= 0 else len(entry)]
        name, is_plain, value = line.partition(b"=")
        position += len(line) + 1
        if not is_plain:
            size = int.from_bytes(entry[position : position + _SIZE_BYTES], "little")
            position += _SIZE_BYTES
            value = entry[position : position + size]
            position += size + 1
        fields.setdefault(name.decode("ascii", "replace"), value)
    return fields


class _Reader:
    """A stream as one buffer with a position in it; what is behind the position is dropped."""

    def __init__(self, stream: Stream, progress: Callable[[int], None]) -> None:
        self._stream = stream
        self._progress = progress
        self.data = b""
        self.position = 0
        self._plain_end = 0
        """Up to here no field has a size."""

    def fill(self, ahead: int) -> bool:
        """Read until so many bytes are ahead; return whether there are."""
        while len(self.data) - self.position < ahead:
            block = self._stream.read(BLOCK_BYTES)
            if not block:
                return False
            self._progress(len(block))
            # A position behind the end of the buffer is a distance to skip.
            skip = max(0, self.position - len(self.data))
            self.data, self.position = self.data[self.position :] + block, skip
            self._plain_end = 0
        return True

    def skip_plain(self, window: ReportWindow) -> None:
        """Go to the entry of the next sign or sized field: all entries before it are plain.

        A sign at the end of a report opens the window where the report begins without a sign.
        """
        if self._plain_end <= self.position:
            sized = _SIZED_FIELD.search(self.data, self.position)
            self._plain_end = sized.start() if sized else len(self.data)
        sign = SIGN.search(self.data, self.position, self._plain_end)
        until = sign.start() if sign else self._plain_end
        body = find_body(self.data, self.position, until) if window.may_follow_body(sign) else -1
        if body >= 0:
            window.open()
            until = body
        before = self.data.rfind(b"\n\n", self.position, until)
        if before >= 0:
            self.position = before + 2

    def find_end(self) -> tuple[int, bool]:
        """Return the end of the entry, and whether all of it is in the buffer."""
        whole, past = True, 0
        while True:
            mark = _END_OR_SIZED_FIELD.search(self.data, self.position + past)
            sized = mark is not None and mark[0] != _END
            if mark and sized:
                past = mark.end() - self.position + _SIZE_BYTES
                if not self.fill(past):
                    return len(self.data), False
                size = self.data[self.position + past - _SIZE_BYTES : self.position + past]
                past += int.from_bytes(size, "little")
            elif mark:
                return mark.start(), whole
            else:
                # A name may be cut off here: go on from the unfinished line.
                past = max(past, self.data.rfind(b"\n", self.position) - self.position)
            ahead = len(self.data) - self.position
            if past > _MAX_ENTRY_BYTES or ahead > _MAX_ENTRY_BYTES + BLOCK_BYTES:
                self.position += past or ahead - 1
                whole, past = False, 0
            if not self.fill(past + 1 if sized else len(self.data) - self.position + 1):
                return len(self.data), whole and not sized and self.data.endswith(b"\n")
