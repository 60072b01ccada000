"""Records in JSON that is not one record a line: printed over several lines, or in arrays.

A record is an object at the top or in an array, with a message in it and no smaller record. Not
more than one record is in memory, and one that is too large is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from otel_oom.commands.replay.decompress import Stream
from otel_oom.commands.replay.prefilter import BLOCK_BYTES, RawLine, ReportWindow
from otel_oom.commands.replay.signs import SIGN

_MAX_RECORD_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 64
# Possessive quantifiers: those that may go back keep memory for each of their steps.
_BRACKET: Final = re.compile(
    # Whole strings and all else before a bracket, or before a string that has no end yet. Arrays of
    # two levels without a string, and empty objects, are no records: each costs a step otherwise.
    rb'(?:[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"|\{\s*+\}'
    rb'|\[(?:[^"{}\[\]]++|\[[^"{}\[\]]*+\])*+\])*+([{}\[\]]?)',
    re.DOTALL,
)
_RUN: Final = re.compile(rb"[\[{]++|[\]}]++")
_REST_OF_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+("?)', re.DOTALL)
_MESSAGE: Final = re.compile(
    rb'"(?:MESSAGE|message|msg|log|textPayload|@message|line|text|short_message|_raw|body)"\s*:'
)


class _Scope(Struct):
    """An open object or array; ``start`` is ``None`` where it can be no record any more."""

    start: int | None


def prefilter_records(
    stream: Stream,
    progress: Callable[[int], None] = lambda _: None,
    on_other: Callable[[bytes], None] = lambda _: None,
) -> Iterator[RawLine]:
    """Yield the records that matter; the arguments are those of :func:`prefilter.read_blocks`.

    ``on_other`` is called with each object that has no message.
    """
    window = ReportWindow()
    for record in _split_records(stream, progress, on_other):
        sign = SIGN.search(record)
        if sign or window.is_open:
            yield window.advance(record, sign)


def _split_records(
    stream: Stream, progress: Callable[[int], None], on_other: Callable[[bytes], None]
) -> Iterator[bytes]:
    scanner = _Scanner(on_other)
    while data := stream.read(BLOCK_BYTES):
        progress(len(data))
        yield from scanner.feed(data)


class _Scanner:
    def __init__(self, on_other: Callable[[bytes], None]) -> None:
        self._on_other = on_other
        self._data = b""
        self._position = 0
        self._in_string = False
        """The beginning of a string that has no end yet was dropped."""
        self._scopes: list[_Scope] = []
        self._depth = 0
        """Open scopes, also those too deep to be kept."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the records that end in ``data``."""
        self._data += data
        if self._in_string:
            self._skip_string()
        while not self._in_string:
            match = _BRACKET.match(self._data, self._position)
            if match is None or not match[1]:
                self._position = match.end() if match else self._position
                break
            self._position = match.end()
            if self._depth > _MAX_DEPTH:
                self._skip_run(match.start(1))
                continue
            record = self._on_bracket(match[1], match.start(1))
            if record is not None:
                yield record
        self._drop_done()

    def _skip_string(self) -> None:
        match = _REST_OF_STRING.match(self._data)
        if match:
            # A backslash at the end belongs to what follows.
            self._position, self._in_string = match.end(), not match[1]

    def _skip_run(self, start: int) -> None:
        """Count equal brackets that are too deep to matter."""
        run = _RUN.match(self._data, start, start + self._depth - _MAX_DEPTH)
        if run:
            count = len(run[0])
            self._depth += count if run[0][:1] in b"{[" else -count
            self._position = run.end()

    def _on_bracket(self, bracket: bytes, start: int) -> bytes | None:
        if bracket in b"{[":
            self._depth += 1
            if self._depth <= _MAX_DEPTH:
                is_record = bracket == b"{"
                self._scopes.append(_Scope(start if is_record else None))
            return None
        self._depth = max(0, self._depth - 1)
        if self._depth >= len(self._scopes):
            return None
        scope = self._scopes.pop()
        in_object = bool(self._scopes) and self._scopes[-1].start is not None
        if scope.start is None or in_object:
            return None
        record = self._data[scope.start : start + 1]
        if not _MESSAGE.search(record):
            self._on_other(record)
            return None
        for outer in self._scopes:
            outer.start = None
        return record

    def _drop_done(self) -> None:
        """Drop what no record needs; give up a record, or a string, that is too long."""
        for scope in self._scopes:
            if scope.start is not None and len(self._data) - scope.start > _MAX_RECORD_BYTES:
                scope.start = None
        if not self._in_string and len(self._data) - self._position > _MAX_RECORD_BYTES:
            # From behind the quote: a backslash at the end belongs to what follows.
            rest = _REST_OF_STRING.match(self._data, self._position + 1)
            self._in_string, self._position = True, rest.end() if rest else len(self._data)
        starts = [scope.start for scope in self._scopes if scope.start is not None]
        done = min([*starts, self._position])
        for scope in self._scopes:
            if scope.start is not None:
                scope.start -= done
        self._data, self._position = self._data[done:], self._position - done
