"""Text in UTF-16, as PowerShell and editors of Windows write it, or with a mark of UTF-8."""

from __future__ import annotations

import codecs
from typing import Final, Protocol


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


_MARKS: Final = {
    codecs.BOM_UTF8: "",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_MARK_BYTES: Final = max(map(len, _MARKS))


class Utf8Stream:
    """A stream in UTF-8 without a byte order mark; a stream without one stays as it is."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._decoder: codecs.IncrementalDecoder | None = None
        self._has_begun = False

    def read(self, size: int, /) -> bytes:
        """Return some bytes, of UTF-16 up to half as many again as ``size``; none at the end."""
        data = self._stream.read(size) if self._has_begun else self._begin(size)
        if self._decoder is None:
            return data
        while True:
            text = self._decoder.decode(data, final=not data)
            if text or not data:
                # A half of a surrogate pair is not UTF-8.
                return text.encode("utf-8", "replace")
            data = self._stream.read(size)

    def _begin(self, size: int) -> bytes:
        self._has_begun = True
        head = b""
        while len(head) < _MARK_BYTES and (data := self._stream.read(max(size, _MARK_BYTES))):
            head += data
        for mark, encoding in _MARKS.items():
            if head.startswith(mark):
                if encoding:
                    self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
                return head[len(mark) :] or self._stream.read(size)
        return head
