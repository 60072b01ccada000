"""What a victim was started with, out of the kernel side's copy of its memory.

The copy holds secrets: only its allowed part leaves this module, and the copy is wiped.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from msgspec import Struct

from otel_oom.capture.bpf.libbpf import LibbpfError
from otel_oom.capture.bpf.maps import MappedValue, Maps
from otel_oom.capture.bpf.pin_set import START_TEXT_MAP
from otel_oom.capture.bpf.records import (
    ARGUMENT_CHUNKS,
    CHUNK_LEN,
    ENVIRON_CHUNKS,
    START_TEXTS,
    StartTextRecord,
    UserTextRecord,
)
from otel_oom.linux.start_settings import ALLOWED_VARIABLES, select_start_settings
from otel_oom.model.start_settings import MARK, StartSettings
from otel_oom.model.text import decode_bytes

_SIZE: Final = ctypes.sizeof(StartTextRecord)
_TIME_BYTES: Final = StartTextRecord.boottime_ns.size
_ARGUMENTS: Final = StartTextRecord.arguments.offset
_ENVIRON: Final = StartTextRecord.environ.offset
_ARGUMENT_CHUNKS: Final = StartTextRecord.argument_chunks.offset
_ENVIRON_CHUNKS: Final = StartTextRecord.environ_chunks.offset
_ALLOWED: Final = frozenset(name.encode() for name in ALLOWED_VARIABLES)


class _Run(Struct, frozen=True):
    """Bytes without a gap; ``is_start`` and ``is_end`` are those of the whole text."""

    content: bytes
    is_start: bool
    is_end: bool


class StartTextReader:
    """Reader of the kernel side's copies; each is read once.

    The kernel side may overwrite a copy while this reads or wipes it. It writes the time of the new
    kill first: so a copy is whole if it has the same time before and after.
    """

    def __init__(self, loaded: Maps) -> None:
        self._maps = loaded
        self._number, self._boottime_ns = 0, 0
        self._damaged: dict[int, int] = {}
        """Times, by number, of copies that a wipe may have met."""

    def read(self, number: int, boottime_ns: int) -> StartSettings | None:
        """Return the allowed part of copy ``number``, if it belongs to the kill of that time."""
        if not 0 < number <= START_TEXTS or self._damaged.get(number) == boottime_ns:
            return None
        with suppress(OSError, LibbpfError), self._map_copy(number) as copy:
            # The kill's record comes after its copy.
            if _time_of(copy) != boottime_ns:
                return None
            arguments, environ = read_start_text(copy)
            # A later kill may overwrite the copy meanwhile.
            if _time_of(copy) == boottime_ns:
                self._number, self._boottime_ns = number, boottime_ns
                return select_allowed(arguments, environ)
        return None

    def wipe(self) -> None:
        """Wipe the copy that was read last: its kill is stored."""
        number, self._number = self._number, 0
        if not number:
            return
        with suppress(OSError, LibbpfError), self._map_copy(number) as copy:
            if _time_of(copy) != self._boottime_ns:
                return
            copy.wipe()
            self._damaged[number] = _time_of(copy)

    def _map_copy(self, number: int) -> MappedValue:
        return self._maps.map_value(START_TEXT_MAP, _SIZE, index=number - 1)


def _time_of(copy: MappedValue) -> int:
    return int.from_bytes(copy.read(0, _TIME_BYTES), sys.byteorder)


def read_start_text(copy: MappedValue) -> tuple[list[_Run], list[_Run]]:
    """Return the parts of the arguments and of the environment that the kernel side could read."""
    header = copy.read(0, _ARGUMENT_CHUNKS)
    arguments = UserTextRecord.from_buffer_copy(header, _ARGUMENTS)
    environ = UserTextRecord.from_buffer_copy(header, _ENVIRON)
    return (
        list(_list_runs(copy, arguments, _ARGUMENT_CHUNKS, ARGUMENT_CHUNKS)),
        list(_list_runs(copy, environ, _ENVIRON_CHUNKS, ENVIRON_CHUNKS)),
    )


def select_allowed(arguments: list[_Run], environ: list[_Run]) -> StartSettings | None:
    """Return the allowed part of a copy; ``None`` if its environment could not be read.

    A program that writes a title over its arguments (setproctitle(3)) has no environment there any
    more.
    """
    is_complete = len(environ) == 1 and environ[0].is_start and environ[0].is_end
    entries = [entry for run in environ for entry in _split_run(run)]
    if not environ or (entries and b"=" not in entries[0]):
        return None
    allowed = (entry for entry in entries if entry.partition(b"=")[0] in _ALLOWED)
    command = arguments[0] if arguments and arguments[0].is_start else None
    return select_start_settings(
        MARK,
        [decode_bytes(word) for word in _split_run(command)] if command else (),
        map(decode_bytes, allowed),
        is_complete=is_complete,
        has_command=command is not None and command.is_end,
    )


def _list_runs(copy: MappedValue, text: UserTextRecord, offset: int, count: int) -> Iterator[_Run]:
    """Yield the parts of a text that could be read, whose ``count`` chunks are at ``offset``."""
    begin, size = text.begin % CHUNK_LEN, count * CHUNK_LEN
    wanted = begin + text.end - text.begin
    end = min(begin + max(0, text.end - text.begin), size)
    start: int | None = None
    for index in range((end + CHUNK_LEN - 1) // CHUNK_LEN + 1):
        at = index * CHUNK_LEN
        if at < end and text.read_chunks >> index & 1:
            start = at if start is None else start
        elif start is not None:
            stop, first = min(at, end), max(start, begin)
            content = copy.read(offset + first, stop - first)
            yield _Run(content, start == 0, stop == end and wanted <= size)
            start = None


def _split_run(run: _Run) -> list[bytes]:
    """Return the words of a run that have both their ends in it."""
    words = run.content.split(b"\0")
    # What follows the last NUL is no word, or is cut off.
    return words[0 if run.is_start else 1 : -1]
